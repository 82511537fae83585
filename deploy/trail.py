"""What became of one report, step by step: for its citizen (像网购一样透明), and whole for who traces it.

The trail tells units and states, never a person.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

Row = Mapping[str, Any]
#: The named queries that this asks.
QUERIES = ("report_outcome", "report_links", "actions_on", "event", "event_orders")
#: Steps of an order that are the city's own affair.
SILENT = (
    *("near_due", "overdue", "dispatch_overdue", "sign_overdue", "handle_overdue"),
    *("false_closure", "supervise"),
)
#: Steps whose reason is what the unit or the centre says to the citizen.
ANSWERS = ("handle", "direct_answer")


class Rows(Protocol):
    """A named query's rows."""

    def __call__(self, query: str, **given: Any) -> list[dict[str, Any]]: ...


class Step(BaseModel):
    """One step, oldest first."""

    at: int = Field(description="ms since the epoch UTC.")
    what: Literal["received", "decided", "linked", "moved", "order"]
    state: str = Field(default="", description="Outcome, relation, or state of the order.")
    reason: str = Field(default="", description="Of the outcome, a code.")
    unit: str = Field(default="", description="The unit's name.")
    due_at: int | None = Field(default=None, description="Of the order; ms since the epoch UTC.")
    note: str = Field(default="", description="What the unit told the citizen.")


class Trail(BaseModel):
    """A report's whole way."""

    report_id: str
    channel: str
    class_code: str
    district_code: str
    state: str = Field(description="State of its order, else its outcome.")
    reports: int = Field(description="Reports of the same matter, this one included.")
    steps: list[Step]


def read_trail(rows: Rows, report: str) -> Trail | None:
    """The trail of a report; None when there is none of that id."""
    outcomes = rows("report_outcome", report_id=report)
    if not outcomes:
        return None
    links = rows("report_links", report_id=report)
    events = list(dict.fromkeys(link["event_id"] for link in links))
    orders = {event: rows("event_orders", event_id=event) for event in events}
    matters = {event: rows("event", event_id=event) for event in events}
    return trail(outcomes[0], links, orders, matters)


def steps_of(rows: Rows, report: str) -> list[dict[str, Any]]:
    """The steps of :func:`read_trail` as plain rows; none of a report that is not known."""
    found = read_trail(rows, report)
    return [step.model_dump() for step in found.steps] if found else []


def trail(
    outcome: Row,
    links: Sequence[Row],
    orders: Mapping[str, Sequence[Row]],
    events: Mapping[str, Sequence[Row]],
) -> Trail:
    """Put a report's facts into one order; pure.

    Of its event, every step, those before it was told of too; of one that it left, the steps
    while it was in it.
    """
    steps = [
        Step(at=outcome["received_at"], what="received", state=outcome["channel"]),
        Step(
            at=outcome["decided_at"],
            what="decided",
            state=outcome["outcome"],
            reason=outcome["reason"],
        ),
    ]
    since: dict[str, int] = {}
    left: dict[str, int] = {}
    for link in links:
        event, at = link["event_id"], link["decided_at"]
        if link["sign"] < 0:
            left[event] = at
            continue
        left.pop(event, None)
        since.setdefault(event, at)
        steps.append(
            Step(at=at, what="linked" if not link["sequence"] else "moved", state=link["relation"])
        )
    state, count = outcome["outcome"], 1
    for event, transitions in orders.items():
        until = left.get(event)
        known = since.get(event, 0) if until is not None else 0
        told = [
            Step(
                at=step["at"],
                what="order",
                state=step["to_state"],
                unit=step["unit_name"],
                due_at=step["due_at"],
                note=step["reason"] if step.get("action", "") in ANSWERS else "",
            )
            for step in transitions
            if step.get("action", "") not in SILENT
            and known <= step["at"]
            and (until is None or step["at"] <= until)
        ]
        steps += told
        if until is None and event in since:
            state = told[-1].state if told else state
            count = next((found["report_count"] for found in events.get(event, ())), count)
    return Trail(
        report_id=outcome["report_id"],
        channel=outcome["channel"],
        class_code=outcome["class_code"],
        district_code=outcome["district_code"],
        state=state,
        reports=count,
        steps=sorted(steps, key=lambda step: step.at),
    )


def trace(rows: Rows, report: str) -> dict[str, Any]:
    """Everything that the tables know of a report, for who runs the city; empty when it is unknown."""
    outcomes = rows("report_outcome", report_id=report)
    if not outcomes:
        return {}
    links = rows("report_links", report_id=report)
    events = list(dict.fromkeys(link["event_id"] for link in links))
    found = {event: rows("event", event_id=event) for event in events}
    orders = [step for event in events for step in rows("event_orders", event_id=event)]
    ids = ",".join([report, *events, *dict.fromkeys(step["order_id"] for step in orders)])
    return {
        "outcomes": outcomes,
        "links": links,
        "events": [row for event in events for row in found[event]],
        "orders": sorted(orders, key=lambda step: step["at"]),
        "actions": rows("actions_on", ids=ids),
    }
