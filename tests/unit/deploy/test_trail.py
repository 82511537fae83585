"""A citizen's trail: every step of the report and of its matter, in order, and nobody else's."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deploy.trail import trail
from schemas.secrets import is_trail_secret, trail_secret

OUTCOME = {
    "report_id": "r2", "channel": "photo_app", "outcome": "accepted", "reason": "", "class_code": "0110",
    "district_code": "410105", "received_at": 1000, "decided_at": 1100,
}  # fmt: skip


def link(event: str, at: int, sequence: int = 0, sign: int = 1, relation: str = "co_report") -> Any:
    return {
        "event_id": event,
        "relation": relation,
        "decided_at": at,
        "sequence": sequence,
        "sign": sign,
    }


def step(at: int, state: str, unit: str = "城管局", **more: Any) -> dict[str, Any]:
    return {"at": at, "to_state": state, "unit_name": unit, "due_at": 9000, **more}


def test_a_report_that_joined_shows_the_steps_of_its_matter_from_the_beginning() -> None:
    orders = {
        "e1": [
            step(500, "DISPATCHED"),
            step(1500, "SIGNED"),
            step(2000, "HANDLED", action="handle", reason="已修复"),
        ]
    }
    found = trail(OUTCOME, [link("e1", 1200)], orders, {"e1": [{"report_count": 3}]})
    assert [(s.at, s.state) for s in found.steps] == [
        (500, "DISPATCHED"), (1000, "photo_app"), (1100, "accepted"), (1200, "co_report"), (1500, "SIGNED"),
        (2000, "HANDLED"),
    ]  # fmt: skip
    assert (found.state, found.reports, found.steps[-1].note) == ("HANDLED", 3, "已修复")


def test_after_a_merge_the_steps_of_both_are_shown_each_as_long_as_it_was_its_own() -> None:
    links = [link("e2", 1200, relation="opened"), link("e2", 3000, 0, -1), link("e1", 3000, 1)]
    orders = {
        "e2": [step(1300, "DISPATCHED", "园林局"), step(3100, "WITHDRAWN", "园林局")],
        "e1": [step(700, "DISPATCHED"), step(4000, "HANDLED")],
    }
    found = trail(
        OUTCOME, links, orders, {"e1": [{"report_count": 2}], "e2": [{"report_count": 0}]}
    )
    assert [(s.at, s.state) for s in found.steps if s.what == "order"] == [
        (700, "DISPATCHED"), (1300, "DISPATCHED"), (4000, "HANDLED"),
    ]  # fmt: skip
    assert [s.what for s in found.steps if s.what in ("linked", "moved")] == ["linked", "moved"]
    assert (found.state, found.reports) == ("HANDLED", 2)


def test_of_a_matter_that_it_was_in_for_a_while_only_that_while_is_shown() -> None:
    links = [
        link("e2", 1200, relation="opened"), link("e2", 3000, 1, -1), link("e1", 3000, 1),
        link("e1", 5000, 2, -1), link("e2", 5000, 2),
    ]  # fmt: skip
    orders = {
        "e2": [step(1300, "DISPATCHED"), step(3100, "WITHDRAWN"), step(5100, "DISPATCHED")],
        "e1": [step(700, "DISPATCHED"), step(4000, "SIGNED"), step(5100, "HANDLED")],
    }
    found = trail(OUTCOME, links, orders, {})
    assert [(s.at, s.what) for s in found.steps][:2] == [(1000, "received"), (1100, "decided")]
    assert [(s.at, s.state) for s in found.steps if s.what == "order"] == [
        (1300, "DISPATCHED"), (3100, "WITHDRAWN"), (4000, "SIGNED"), (5100, "DISPATCHED"),
    ]  # fmt: skip


def test_what_waits_for_review_says_so_and_what_is_the_citys_own_affair_is_not_told() -> None:
    waiting = trail(OUTCOME | {"outcome": "review", "reason": "no_location"}, [], {}, {})
    assert (waiting.state, waiting.steps[-1].reason) == ("review", "no_location")
    orders = {"e1": [step(1500, "SIGNED"), step(1600, "SIGNED", action="near_due")]}
    found = trail(OUTCOME, [link("e1", 1200)], orders, {"e1": [{"report_count": 1}]})
    assert [s.at for s in found.steps if s.what == "order"] == [1500]


@given(st.binary(min_size=16, max_size=64), st.uuids(), st.uuids())
def test_a_secret_opens_its_own_report_alone(key: bytes, one: Any, other: Any) -> None:
    known = trail_secret(key, str(one))
    assert is_trail_secret(key, str(one), f" {known.upper()} ")
    assert is_trail_secret(key, str(other), known) == (one == other)
    assert not is_trail_secret(key + b"x", str(one), known)
    assert not is_trail_secret(key, str(one), "")
