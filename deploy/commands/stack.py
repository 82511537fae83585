"""`quanyu up | down | status`: the embedded stack."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

Home = Annotated[Path | None, typer.Option(help="State of the stack; default .quanyu.")]
Port = Annotated[int | None, typer.Option(help="First of the stack's ports: the screen's.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]

START_LIMIT_S = 300.0
STOP_LIMIT_S = 20.0


def register(app: typer.Typer) -> None:
    """Add `up`, `down` and `status`."""

    @app.command("up")
    def up(
        detach: Annotated[
            bool, typer.Option("--detach", help="Return once every part answers.")
        ] = False,
        port: Port = None,
        home: Home = None,
        as_json: AsJson = False,
    ) -> None:
        """Start Kafka, ClickHouse and every part; Ctrl-C or `quanyu down` stops them.

        Example: quanyu up --detach --port 8100
        """
        settings = load_settings(port=port, home=home)
        started = time.monotonic()
        setup_log = settings.home / "logs" / "setup.log"
        told = setup_log.stat().st_size if setup_log.exists() else 0

        def ready() -> None:
            for line in left_to_do(setup_log, told):
                typer.echo(line, err=True)
            _say_ready(settings, time.monotonic() - started, as_json)

        if detach:
            _detach(settings)
            ready()
        else:
            _foreground(settings, ready)

    @app.command("down")
    def down(home: Home = None, port: Port = None) -> None:
        """Stop the stack of a home within 15 s; the data stays. Example: quanyu down"""
        from deploy.local import home as homes

        home_path = load_settings(home=home, port=port).home
        pid = homes.owner(home_path)
        if pid is None:
            left = homes.kill_leftovers(home_path)
            typer.echo(f"stopped {', '.join(left)}" if left else f"no stack runs in {home_path}")
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not homes.wait_released(home_path, STOP_LIMIT_S):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            homes.wait_released(home_path, 5.0)
            homes.kill_leftovers(home_path)
        typer.echo("stopped")

    @app.command("status")
    def status(home: Home = None, port: Port = None, as_json: AsJson = False) -> None:
        """Each part: running, since when, restarts, whether it answers; exit 1 when one does not.

        Example: quanyu status --json
        """
        document = _status(load_settings(home=home, port=port))
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))
        else:
            _print(document)
        if not document["ready"]:
            raise typer.Exit(1)


def left_to_do(log: Path, since: int) -> list[str]:
    """What the setup of this start left to a person: its lines after ``since`` bytes that name a command."""
    if not log.exists():
        return []
    told = log.read_bytes()[since:].decode("utf-8", errors="replace")
    return [line for line in told.splitlines() if ": quanyu " in line]


def _foreground(settings: Settings, ready: Callable[[], None]) -> None:
    from deploy.local import home as homes
    from deploy.local.supervisor import create

    with homes.owned(settings.home):
        homes.prepare(settings)
        create(settings, lambda line: typer.echo(line, err=True)).run(ready)


def _detach(settings: Settings) -> None:
    from deploy.local import home as homes
    from deploy.local.parts import child_environment, module

    if homes.owner(settings.home):
        raise homes.busy(settings.home)
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 # our own module
            module("deploy.local.supervisor"),
            env=child_environment(settings, {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + START_LIMIT_S
    try:
        while process.poll() is None:
            recorded = homes.read_json(settings.home / homes.PARTS_FILE) or {}
            if recorded.get("ready") and recorded.get("supervisor") == process.pid:
                return
            if time.monotonic() > end:
                raise QuanyuError(f"not ready after {START_LIMIT_S:.0f} s; see {logs}")
            time.sleep(0.1)
    except BaseException:
        # Also Ctrl-C: who did not wait for the stack does not want it.
        process.terminate()
        process.wait()
        raise
    text = (logs / "supervisor.log").read_text(encoding="utf-8", errors="replace").strip()
    raise QuanyuError(text or "the start was interrupted: quanyu down, or a signal")


def _say_ready(settings: Settings, seconds: float, as_json: bool) -> None:
    addresses = {
        "screen": f"{settings.screen_url}/",
        "clickhouse": settings.clickhouse_url,
        "kafka": settings.bootstrap,
        "keys": str(settings.keys_path),
        "logs": str(settings.home / "logs"),
    }
    if as_json:
        ready = {"home": str(settings.home), "port": settings.port, "seconds": round(seconds, 2)}
        typer.echo(json.dumps({**ready, **addresses}, ensure_ascii=False))
        return
    for name, address in addresses.items():
        typer.echo(f"{name:<11}{address}")
    typer.echo(f"ready in {seconds:.1f} s")


def _status(settings: Settings) -> dict[str, Any]:
    from deploy.local import home as homes
    from deploy.local.parts import pipeline_parts, storage_parts
    from streams.renew import PACK_FILE

    running = homes.owner(settings.home) is not None
    recorded = (homes.read_json(settings.home / homes.PARTS_FILE) or {}) if running else {}
    by_name = {part["name"]: part for part in recorded.get("parts", [])}
    parts = []
    for part in storage_parts(settings) + pipeline_parts(settings):
        entry = by_name.get(part.name, {})
        pid = entry.get("pid")
        answering = bool(pid) and part.answers()
        state = "running" if answering else "starting" if pid else "restarting"
        parts.append(
            {
                "name": part.name,
                "state": state if running else "stopped",
                "pid": pid,
                "since": entry.get("since"),
                "restarts": entry.get("restarts", 0),
                "port": part.ports[0],
                "answering": answering,
            }
        )
    return {
        "home": str(settings.home),
        "running": running,
        "pack": homes.read_json(settings.home / PACK_FILE) if running else None,
        "ready": bool(recorded.get("ready")) and all(part["answering"] for part in parts),
        "parts": parts,
    }


def _print(document: dict[str, Any]) -> None:
    table = Table(
        "part", "state", "pid", "since", "restarts", "port", "answers", title=document["home"]
    )
    for part in document["parts"]:
        since = (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(part["since"] / 1000))
            if part["since"]
            else ""
        )
        table.add_row(
            part["name"], part["state"], str(part["pid"] or ""), since, str(part["restarts"]),
            str(part["port"]), "yes" if part["answering"] else "no",
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    if pack := document["pack"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pack["since_ms"] / 1000))
        console.print(f"pack {pack['version']} in service since {since}")
        if pack["refused"]:
            console.print(f"its last change was refused: {pack['refused']}", style="bold red")
