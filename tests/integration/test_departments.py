"""Departments at work on a real stack: the order book has every kind of step, just as their truth says."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import load_settings
from schemas.tables import connect
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

#: So quick that the common matter is closed in ten seconds, rates and returns in less.
PACE, RATE, SECONDS = 1_200, 40, 45
STEPS = ("dispatch", "sign", "contact", "start", "handle", "check_pass", "check_fail", "close", "visit",
         "return", "ask_extension", "reopen", "invalidate")  # fmt: skip


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own."""
    home = tmp_path_factory.mktemp("departments")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


def test_what_departments_asked_for_is_what_the_order_book_has(city: Stack) -> None:
    result = city.json(
        *("simulate", "--seed", "4", "--rate", str(RATE), "--duration", str(SECONDS)),
        *("--departments", "--pace", str(PACE)),
        timeout=300,
    )
    told = result["departments"]
    assert not told["failure"]
    assert told["unanswered"] == 0
    truth = [json.loads(line) for line in Path(told["truth"]).read_text("utf-8").splitlines()]
    done = {a["action_id"]: a for a in truth if a["outcome"] == "applied"}
    assert len({a["action_id"] for a in truth}) == len(truth) == sum(told["asked"].values())
    assert Counter(a["action"] for a in done.values()) == told["applied"]
    # What is refused came second: after a step of the system, of time, or of another of them.
    refused = {a["refusal"] for a in truth} - {""}
    assert refused <= {"stale", "illegal", "too_late"}, told["refused"]
    assert len(done) > 0.9 * len(truth)

    report = city.json("audit", "--timeout", "180", timeout=300)
    assert report["clean"], report

    settings = load_settings(home=city.home, port=city.port)
    with connect(settings) as client:
        client.database = settings.clickhouse_database

        def rows(query: str) -> list[Any]:
            return list(client.query(query).result_rows)

        steps = {
            str(action): (str(verb), str(order), str(actor), str(role))
            for action, verb, order, actor, role in rows(
                "SELECT action_id, action, order_id, actor, role FROM order_transitions "
                "WHERE action_id != '' AND role != 'system'"
            )
        }
        expected = {i: (a["action"], a["order_id"], a["actor"], a["role"]) for i, a in done.items()}
        assert steps == expected
        kinds = {str(verb) for (verb,) in rows("SELECT DISTINCT action FROM order_transitions")}
        assert set(STEPS) <= kinds
        outcomes = {str(i) for (i,) in rows("SELECT action_id FROM action_outcomes")}
        assert {a["action_id"] for a in truth} <= outcomes
        ((unrated,),) = rows(
            "SELECT countIf(first_visit = '') FROM orders FINAL WHERE order_id IN "
            "(SELECT order_id FROM order_transitions WHERE action = 'visit')"
        )
        assert unrated == 0


def test_without_departments_nobody_acts(city: Stack) -> None:
    result = city.json(
        *("simulate", "--seed", "5", "--rate", "20", "--duration", "3", "--no-departments"),
        timeout=120,
    )
    assert result["departments"] is None
    assert not list((city.home / "truth").glob("*-5-*.ndjson"))
