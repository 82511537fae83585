"""`quanyu trace`: one report, from its channel to its closed order."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from deploy.desk import at_desk
from deploy.trail import trace
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.secrets import load_hash_key, trail_secret
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `trace`."""

    @app.command("trace")
    def trace_(
        report: Annotated[str, typer.Argument(help="Id of a report.")],
        as_json: _Json = False,
    ) -> None:
        """Follow one report: outcome, links, events, orders, and what people did.

        Example: quanyu trace 0e2f6c1a-…
        """
        settings = load_settings()
        with at_desk(settings) as desk:
            found = trace(desk.rows, report)
        if not found:
            raise QuanyuError(f"no report {report[:60]!r}; its outcome may come in a second")
        found["secret"] = trail_secret(load_hash_key(settings), report)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False))
            return
        city = load_city(settings.city)
        zone = ZoneInfo(city.time_zone)
        console = Console(highlight=False)
        for at, line in sorted(_lines(found)):
            when = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone)
            console.print(f"{when:%m-%d %H:%M:%S}  {line}", markup=False, soft_wrap=True)
        console.print(f"secret of its trail: {found['secret']}")


def _lines(found: dict[str, Any]) -> list[tuple[int, str]]:
    """Every fact as a line, with its instant."""
    lines = []
    for row in found["outcomes"]:
        where = f"{row['source_topic']}[{row['source_partition']}]@{row['source_offset']}"
        lines.append((row["received_at"], f"received   {row['channel']}, {where}"))
        why = " ".join(filter(None, (row["reason"], row["detail"])))
        what = f"{row['class_code']} in {row['grid_code'] or row['district_code'] or '?'}"
        lines.append((row["decided_at"], f"{row['outcome']:10} {what} {why}".rstrip()))
    for link in found["links"]:
        what = link["relation"] if link["sign"] > 0 else "taken back"
        reason = f"{link['score']:.2f} {link['reason']}" if link["sign"] > 0 else ""
        lines.append((link["decided_at"], f"{what:10} event {link['event_id']} {reason}".rstrip()))
    for step in found["orders"]:
        what = f"{step['from_state']} → {step['to_state']}"
        who = f"{step['unit_name']} by {step['actor']}"
        lines.append((step["at"], f"order      {what}, {who}: {step['reason']}"))
    for action in found["actions"]:
        why = f"{action['reason']}: {action['detail']}" if action["reason"] else ""
        what = f"{action['action']} {action['target']} {action['other']}".rstrip()
        lines.append(
            (
                action["decided_at"],
                f"{action['outcome']:10} {what} by {action['actor']} {why}".rstrip(),
            )
        )
    return lines
