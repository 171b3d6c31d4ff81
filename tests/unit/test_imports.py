"""The picture of the code: modules import each other in one direction, and layers keep apart."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import feedsvc

ROOT = Path(feedsvc.__file__).parent
MODULES = {
    ".".join(("feedsvc", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in ROOT.rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere, also only for its types."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
    return names


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: names & MODULES.keys() - {module} for module, names in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_the_core_knows_no_grpc_and_nothing_above_it() -> None:
    above = ("grpc", "feedsvc.services", "feedsvc.interceptors", "feedsvc.server", "feedsvc.cli")
    wrong = {
        (module, name)
        for module, names in IMPORTS.items()
        if module.startswith("feedsvc.core")
        for name in names
        if name.startswith(above)
    }
    assert not wrong


def test_handlers_know_no_redis_and_no_keys() -> None:
    below = ("redis", "feedsvc.core.keys", "feedsvc.core.transport", "feedsvc.core.scripts")
    wrong = {
        (module, name)
        for module, names in IMPORTS.items()
        if module.startswith(("feedsvc.services", "feedsvc.interceptors"))
        for name in names
        if name.startswith(below)
    }
    assert not wrong
