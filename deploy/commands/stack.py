"""`quanyu up | down | status`: the embedded stack."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

Home = Annotated[Path | None, typer.Option(help="State of the stack; default QUANYU_HOME or .quanyu.")]
Port = Annotated[int | None, typer.Option(help="First of the stack's ports; the screen answers on it.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]

START_LIMIT_S = 300.0
STOP_LIMIT_S = 20.0


def register(app: typer.Typer) -> None:
    """Add `up`, `down` and `status`."""

    @app.command("up")
    def up(
        detach: Annotated[bool, typer.Option("--detach", help="Return once every part answers.")] = False,
        port: Port = None,
        home: Home = None,
    ) -> None:
        """Start Kafka, ClickHouse and every part, each supervised; Ctrl-C or `quanyu down` stops them.

        Example: quanyu up --detach --port 8100
        """
        settings = load_settings(port=port, home=home)
        if detach:
            _detach(settings)
        else:
            _foreground(settings)

    @app.command("down")
    def down(home: Home = None) -> None:
        """Stop the stack of a home within 15 s; the data stays. Example: quanyu down"""
        from deploy.local import home as homes

        settings = load_settings(home=home)
        pid = homes.supervisor_pid(settings.home)
        if pid is None:
            left = homes.kill_leftovers(settings.home)
            typer.echo(f"no stack runs in {settings.home}" + (f"; stopped {', '.join(left)}" if left else ""))
            return
        os.kill(pid, signal.SIGTERM)
        if not homes.wait_released(settings.home, STOP_LIMIT_S):
            os.kill(pid, signal.SIGKILL)
            homes.wait_released(settings.home, 5.0)
            homes.kill_leftovers(settings.home)
        typer.echo("stopped")

    @app.command("status")
    def status(home: Home = None, as_json: AsJson = False) -> None:
        """Show each part: running, since when, restarts, whether it answers. Exit 1 when one does not.

        Example: quanyu status --json
        """
        settings = load_settings(home=home)
        document = _status(settings)
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            _print(document)
        if not document["ready"]:
            raise typer.Exit(1)


def _foreground(settings: Settings) -> None:
    from deploy.local import home as homes
    from deploy.local.supervisor import create

    with homes.owned(settings.home):
        homes.prepare(settings)
        create(settings).run(lambda: _say_ready(settings))


def _detach(settings: Settings) -> None:
    from deploy.local import home as homes

    if homes.is_owned(settings.home):
        raise QuanyuError(
            f"{settings.home} already has a running stack; see quanyu status, or use another QUANYU_HOME"
        )
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (settings.home / homes.PARTS_FILE).exists() and homes.kill_leftovers(settings.home)
    (settings.home / homes.PARTS_FILE).unlink(missing_ok=True)
    environment = {
        **os.environ,
        "QUANYU_HOME": str(settings.home.resolve()),
        "QUANYU_PORT": str(settings.port),
    }
    with (logs / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "deploy.local.supervisor"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        code = process.poll()
        if code is not None:
            text = (logs / "supervisor.log").read_text(encoding="utf-8", errors="replace")
            raise QuanyuError(text.strip() or f"the supervisor ended with exit code {code}")
        if (homes.read_json(settings.home / homes.PARTS_FILE) or {}).get("ready"):
            _say_ready(settings)
            return
        time.sleep(0.1)
    process.terminate()
    raise QuanyuError(f"not ready after {START_LIMIT_S:.0f} s; see {logs}")


def _say_ready(settings: Settings) -> None:
    typer.echo(f"screen      http://{settings.bind}:{settings.screen_port}/")
    typer.echo(f"ClickHouse  {settings.clickhouse_url}")
    typer.echo(f"Kafka       {settings.bootstrap}")
    typer.echo(f"channel keys {settings.keys_path}; logs {settings.home / 'logs'}")


def _status(settings: Settings) -> dict[str, Any]:
    from deploy.local import home as homes
    from deploy.local.parts import pipeline_parts, storage_parts

    running = homes.is_owned(settings.home)
    recorded = (homes.read_json(settings.home / homes.PARTS_FILE) or {}) if running else {}
    by_name = {part["name"]: part for part in recorded.get("parts", [])}
    parts = []
    for part in storage_parts(settings) + pipeline_parts(settings):
        entry = by_name.get(part.name, {})
        pid = entry.get("pid")
        parts.append(
            {
                "name": part.name,
                "state": "running" if pid else ("restarting" if running else "stopped"),
                "pid": pid,
                "since": entry.get("since"),
                "restarts": entry.get("restarts", 0),
                "port": part.ports[0],
                "answering": bool(pid) and part.answers(),
            }
        )
    return {
        "home": str(settings.home),
        "running": running,
        "ready": bool(recorded.get("ready")) and all(part["answering"] for part in parts),
        "parts": parts,
    }


def _print(document: dict[str, Any]) -> None:
    table = Table("part", "state", "pid", "since", "restarts", "port", "answers", title=document["home"])
    for part in document["parts"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(part["since"])) if part["since"] else ""
        table.add_row(
            part["name"], part["state"], str(part["pid"] or ""), since, str(part["restarts"]),
            str(part["port"]), "yes" if part["answering"] else "no",
        )  # fmt: skip
    Console(highlight=False).print(table)
