"""The command line as a whole."""

import pytest
import typer

from deploy.cli import AREAS, areas, create_app


def commands(app: typer.Typer) -> set[str]:
    """Names of an app's commands."""
    return set(typer.main.get_group(app).commands)


def test_every_command_is_found_by_its_name_alone() -> None:
    every = commands(create_app())
    assert {"up", "status", "restore", "audit", "evaluate"} <= every
    for command in sorted(every):
        (area,) = areas(command)
        assert area in AREAS
        assert command in commands(create_app(command)), f"{command} is not in {area}"


@pytest.mark.parametrize("command", ["", "--help", "stack", "no_such_command"])
def test_what_is_no_command_is_answered_with_all_of_them(command: str) -> None:
    assert areas(command) == AREAS
