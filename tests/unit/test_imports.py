"""The arrows between the folders run one way, so that each can be read without the next."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "connectors": {"connectors", "schemas"},
    "streams": {"streams", "schemas"},
    "deploy": {"deploy", "connectors", "streams", "schemas"},
}


def imported(source: str) -> set[tuple[int, str]]:
    """Line and top-level package of every import, wherever in the module it stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name.split(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A relative import could climb out of its folder: the project writes absolute ones.
            found.add((node.lineno, "." if node.level else (node.module or "").split(".")[0]))
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_stands_before_it(folder: str) -> None:
    forbidden = {*MAY_IMPORT, "tests", "."} - MAY_IMPORT[folder]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {package}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, package in sorted(imported(path.read_text(encoding="utf-8")))
        if package in forbidden
    ]
    assert not wrong


def test_an_import_inside_a_function_is_seen() -> None:
    assert imported("def f():\n    from streams.app import create_app\n") == {(2, "streams")}
