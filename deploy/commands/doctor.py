"""`quanyu doctor`: what is wrong from the configuration to the data, and what mends it."""

import json
from typing import Annotated

import typer
from rich.console import Console

from deploy.commands.stack import AsJson, Home, Port
from schemas.settings import load_settings

STYLES = {"error": "bold red", "warning": "yellow", "unknown": "magenta", "info": "", "ok": "green"}


def register(app: typer.Typer) -> None:
    """Add `doctor`."""

    @app.command("doctor")
    def doctor(
        home: Home = None,
        port: Port = None,
        every: Annotated[bool, typer.Option("--all", help="What is in order, too.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Look at settings, machine, files, Kafka, ClickHouse, schemas; each finding with what mends it.

        Works before the first start, half up, and with servers of one's own. Nothing is changed. Exit 0: fine,
        1: an error was found, 2: no error, but not everything could be looked at.

        Example: quanyu doctor --all
        """
        from deploy.configuration import problems
        from deploy.doctor import examine, exit_code
        from deploy.doctor_facts import gather

        settings = load_settings(home=home, port=port)
        findings = examine(gather(settings, problems(settings)))
        code = exit_code(findings)
        if as_json:
            document = {"ok": code == 0, "findings": [f.as_dict() for f in findings]}
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            console = Console(highlight=False)
            for finding in findings:
                if every or finding.severity not in ("ok", "info") or finding.mend:
                    console.print(
                        f"{finding.severity:<8}{finding.area}: {finding.what}",
                        style=STYLES[finding.severity], markup=False, soft_wrap=True,
                    )  # fmt: skip
                    if finding.mend:
                        console.print(f"        → {finding.mend}", markup=False, soft_wrap=True)
            bad = sum(f.severity in ("error", "unknown", "warning") for f in findings)
            console.print(f"{bad} findings" if bad else "nothing is wrong")
        if code:
            raise typer.Exit(code)
