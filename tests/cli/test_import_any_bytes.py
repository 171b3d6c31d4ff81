"""Any bytes give rows or named rejects, and never another error."""

import gzip
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from feedsvc.cli.importing.importer import Importer
from feedsvc.cli.importing.rejects import Reject, RejectsFile
from feedsvc.cli.importing.sources import FORMAT_NAMES, UnusableFile, check_first_rows, open_sources
from feedsvc.cli.importing.tables import TableOptions, WrongOption

#: Pieces of which lines of every format are made, and bytes that none has.
PIECES = st.sampled_from(
    [
        b"\n", b"\r\n", b"\r", b"\t", b",", b'"', b'""', b"|", b"\\", b"\\N", b"\0", b"\xff",
        b"\xed\xa0\x80", b"\xef\xbb\xbf", b"actor", b"verb", b"time", b"extra", b"1341100972",
        b"RT",
        b"follower", b"followee", b'{"activity": {"actor": "a", "verb": "b"', b', "extra": {',
        b', "publishTime": "', b"}}", b'{"follow": {"follower": "a", "followee": "b"}}', b"\\ud800",
        b', "object": ', b"1e999", b"NaN", b"[" * 1_500, b"9" * 5_000, b"\xc2\x85", b"null", b" ",
    ]
)  # fmt: skip
CONTENTS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(b"".join))
OPTIONS = st.sampled_from(
    [
        TableOptions(),
        TableOptions(names=["actor", "verb", "time"]),
        TableOptions(names=["actor", "extra"], constants={"verb": "post"}),
        TableOptions(names=["follower", "-", "followee"]),
        TableOptions(columns={"actor": "1341100972"}, ignored=["*"]),
    ]
)


class Watcher:
    """A watcher that keeps what it is asked to show."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []
        self.texts: list[str] = []

    def begin(self, step: str, unit: str, total: int) -> None:
        pass

    def advance(self, done: int, count: int) -> None:
        pass

    def complain(self, reject: Reject) -> None:
        self.rejects.append(reject)

    def say(self, text: str) -> None:
        self.texts.append(text)


@settings(max_examples=300, deadline=None)
@given(
    contents=st.lists(CONTENTS, min_size=1, max_size=2),
    format_name=st.sampled_from(FORMAT_NAMES),
    options=OPTIONS,
    cut=st.none() | st.integers(1, 40),
    with_header=st.booleans(),
)
async def test_any_bytes_are_imported_or_rejected_by_line_and_rule(
    contents: Sequence[bytes],
    format_name: str,
    options: TableOptions,
    cut: int | None,
    with_header: bool,
) -> None:
    if with_header:
        separator = b"," if format_name == "csv" else b"\t"
        contents = [separator.join([b"actor", b"verb"]) + b"\n" + text for text in contents]
    with TemporaryDirectory() as folder, ExitStack() as resources:
        paths = [Path(folder) / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(gzip.compress(content)[:-cut] if cut else content)
        try:
            sources = open_sources(list(map(str, paths)), format_name, options, resources)
            for source in sources:
                check_first_rows(source)
        except (UnusableFile, WrongOption):
            return
        rejects_file = RejectsFile(Path(folder) / "rejects", sources[0].header, resources)
        watcher = Watcher()
        importer = Importer(None, watcher, rejects_file)
        await importer.run(sources, warm=False)
        report = importer.report
        assert report.follows + report.activities + report.rejected == report.rows
        assert len(watcher.rejects) == report.rejected
        assert len({(reject.file, reject.line) for reject in watcher.rejects}) == report.rejected
        assert all(reject.rule and reject.rule.isprintable() for reject in watcher.rejects)
        assert watcher.texts == [f"{name}: {why}" for name, why in report.damaged_files.items()]
        reasons = rejects_file.reasons_path.read_text().splitlines()
        assert len(reasons) == 1 + report.rejected
