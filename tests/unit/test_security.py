"""SECURITY.md promises nothing without a test that holds it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
THREATS = [line for line in LINES if not line.startswith("| threat ")]


def test_there_are_threats() -> None:
    assert len(THREATS) > 30


@pytest.mark.parametrize("line", THREATS)
def test_each_threat_names_tests_that_there_are(line: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", line)
    assert named, "no test is named"
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), (path, test)


def test_each_exception_from_the_security_rules_says_why() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("schemas", "connectors", "streams", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# noqa: S\d+(?:, *[A-Z]+\d+)*\s*$", line)
    ]
    assert not bare
