"""`quanyu duty explain`: whose duty an event is, by which rule, and why."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from time import time_ns
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from schemas.city import CityPack, TimeLimit, load_city
from schemas.errors import QuanyuError
from schemas.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the `duty` group."""
    group = typer.Typer(help="The duty list: who takes what, and why.", no_args_is_help=True)
    app.add_typer(group, name="duty")

    @group.callback()
    def duty() -> None:
        """The duty list: who takes what, and why."""

    @group.command("explain")
    def explain(
        event_id: Annotated[str | None, typer.Argument(help="Id of an event.")] = None,
        class_code: Annotated[str, typer.Option("--class", help="Without an event: class.")] = "",
        grid: Annotated[str, typer.Option(help="Without an event: a grid's code.")] = "",
        text: Annotated[str, typer.Option(help="Without an event: what is reported.")] = "",
        channel: Annotated[str, typer.Option(help="Without an event: its channel.")] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Say which rule of duty.csv has an event, which do not and why, its deadlines, and who is next.

        Examples: quanyu duty explain 0e2f6c1a-… |
        quanyu duty explain --class 0110 --grid GRID --text "…"
        """
        from streams.dispatch.duty import as_event

        settings = load_settings()
        city = load_city(settings.city)
        if event_id is None:
            if not class_code or not grid:
                raise QuanyuError("name an event, or --class and --grid; see --help")
            event = as_event(city, class_code, grid, text, time_ns() // 1_000_000, channel)
        else:
            if class_code or grid or text or channel:
                raise QuanyuError("name an event or --class, --grid, --text, --channel, not both")
            event = _read(event_id)
        told = explanation(city, event)
        if as_json:
            typer.echo(json.dumps(told, ensure_ascii=False))
            return
        for line in _lines(told, ZoneInfo(city.time_zone)):
            typer.echo(line)


def _read(event_id: str) -> dict[str, Any]:
    """The newest version of an event."""
    from deploy.desk import at_desk

    with at_desk(load_settings()) as desk:
        rows = desk.rows("event", event_id=event_id)
    if not rows:
        raise QuanyuError(f"no event {event_id[:60]!r}; a new one may come in a second")
    return dict(rows[0])


def explanation(city: CityPack, event: dict[str, Any]) -> dict[str, Any]:
    """What `quanyu duty explain` tells, as JSON has it; instants in ms UTC."""
    from streams.dispatch.deadline import WorkClock, stages
    from streams.dispatch.duty import DutyList, Roster, rule_name

    found = DutyList(city).explain(event)
    duty, clock, at = found.duty, WorkClock(city.calendar, city.time_zone), event["opened_at"]
    entry = city.classes.get(event["class_code"])
    told: dict[str, Any] = {
        "class_code": event["class_code"],
        "class": entry.name if entry else "",
        "grid_code": event["grid_code"],
        "conditions": list(found.conditions),
        "rule": duty.rule,
        "unit_code": duty.unit_code,
        "unit_name": duty.unit_name,
        "level": duty.level,
        "deadline_value": duty.deadline,
        "deadline_unit": duty.unit or "",
        "opened_at": at,
        "handle_due_at": None,
        "due_at": None,
        "no_due": "" if duty.unit else "no class of the taxonomy, so no deadline",
        "stages": {},
        "closed_when": duty.closed_when,
        "partners": list(duty.partners),
        "rules": [
            {
                "line": one.rule.line,
                "rule": rule_name(one.rule),
                "department": one.rule.department,
                "applies": rule_name(one.rule) == duty.rule,
                "fits": one.fits,
                "why": one.why,
            }
            for one in found.considered
        ],
        "next": [
            {"unit_code": d.unit_code, "unit_name": d.unit_name, "rule": d.rule}
            for d in found.chain
        ],
        "escalation": [asdict(centre) for centre in found.centres],
    }
    if duty.unit:
        told["handle_due_at"], told["no_due"] = clock.due(at, duty.deadline, duty.unit)
        try:
            limit = TimeLimit(duty.deadline, duty.unit)
            level = entry.level if entry else 3
            told["stages"] = stages(clock, city.stages, level, at, at, limit)._asdict()
            told["due_at"] = told["stages"]["total"]
        except ValueError as error:
            told["no_due"] = str(error)
    worker, why = Roster(city).choose(event["grid_code"], at, {})
    told["worker"] = {"staff_id": worker, "why": why}
    return told


def _lines(told: dict[str, Any], zone: ZoneInfo) -> list[str]:
    def when(instant: int | None) -> str:
        if instant is None:
            return "none"
        return (
            datetime.fromtimestamp(instant / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")
        )

    deadline = (
        f"{told['deadline_value']:g} {told['deadline_unit']}" if told["deadline_unit"] else "none"
    )
    lines = [
        f"class       {told['class_code']} {told['class']}",
        f"place       {told['grid_code'] or 'unknown'}",
        f"conditions  {'、'.join(told['conditions']) or 'none holds'}",
        f"rule        {told['rule']}",
        f"unit        {told['unit_code']} {told['unit_name']} ({told['level']})",
        f"deadline    {deadline} to handle it: {when(told['handle_due_at'])}"
        + (f" ({told['no_due']})" if told["no_due"] else ""),
        f"closed when {told['closed_when'] or '-'}",
        f"partners    {'、'.join(told['partners']) or '-'}",
        f"worker      {told['worker']['staff_id'] or 'none'} ({told['worker']['why']})",
    ]
    if told["stages"]:
        parts = ", ".join(f"{name} {when(at)}" for name, at in told["stages"].items())
        lines.append(f"stages      {parts}")
    lines.append("rules, the most specific first:")
    for one in told["rules"]:
        mark = "→" if one["applies"] else ("·" if one["fits"] else "×")
        place = f"duty.csv:{one['line']}"
        lines.append(f"  {mark} {place:<13} {one['rule']} {one['department']}: {one['why']}")
    lines.append("if it is returned: " + " → ".join(one["unit_name"] for one in told["next"]))
    lines.append("centres: " + " → ".join(one["name"] for one in told["escalation"]))
    return lines
