"""The folders, pyproject.toml, the checkers' links and the direction of imports agree."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Data flows one way; boardfit/, the command line and the Python face, is on top. What errors are
# called is said in devices/, at the bottom.
MAY_IMPORT: dict[str, set[str]] = {
    "devices": set(),
    "profiler": {"devices"},
    "search": {"devices", "profiler"},
    "reports": {"devices", "profiler", "search"},
}


def imported(path: Path) -> Iterator[str]:
    """Each import in a file, a relative one as the dots it was written with."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    inits = [p.parent for f in MAY_IMPORT for p in (ROOT / f).rglob("__init__.py")]
    found = {".".join(("boardfit", *p.relative_to(ROOT).parts)) for p in inits}
    assert set(listed) == found | {"boardfit"}


def test_the_checkers_see_every_file() -> None:
    links = {p.name for p in (ROOT / ".typing/boardfit").iterdir()}
    files = {p.name for p in (ROOT / "boardfit").iterdir() if p.is_file()}
    assert links == files | set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_flow_one_way(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            top = name.partition(".")[0]
            assert top not in {*MAY_IMPORT, "boardfit"}, f"{path}: import {name} with dots instead"
            if name.startswith("..") and not name.startswith("..."):
                part = name.lstrip(".").partition(".")[0]
                assert part in MAY_IMPORT[folder], f"{path}: {folder} may not import {part}"
