"""Known bugs of the import."""

from tests.mutants.bugs.bug import Bug

_IMPORT = "tests/cli/test_import.py"

BUGS = (
    Bug(
        "import-rejects-twice",
        "each pass over a file counts its malformed lines: they are rejected twice",
        (
            (
                "cli/importing/importer.py",
                "                        if first_pass:\n"
                "                            self.report.rows += 1\n",
                "                        if True:\n"
                "                            self.report.rows += 1\n",
            ),
        ),
        (f"{_IMPORT}::test_bad_lines_are_reported_by_number_and_the_import_goes_on",),
    ),
    Bug(
        "import-id-of-quotes",
        "the id of a csv row depends on its quotes: a second export of a table doubles its data",
        (
            (
                "cli/importing/tables.py",
                "partial(self._build, cells), _identity(cells))",
                "partial(self._build, cells))",
            ),
        ),
        (f"{_IMPORT}::test_a_row_is_the_same_however_its_cells_are_written",),
    ),
    Bug(
        "import-stray-quote",
        "a stray quote in a csv file takes the lines after it along",
        (
            (
                "cli/importing/csv_rows.py",
                "            unread.extendleft(reversed(parts[1:]))\n",
                "",
            ),
        ),
        ("tests/cli/test_csv_rows.py::test_a_stray_quote_costs_only_its_own_line",),
    ),
)
