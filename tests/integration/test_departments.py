"""Departments at work on a real stack: the order book has every kind of step, just as their truth says."""

import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import load_settings
from schemas.tables import connect
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

#: So quick that the common matter is closed in ten seconds, rates and returns in less.
PACE, RATE, LIMIT_S = 1_200, 20, 300.0
STEPS = ("dispatch", "sign", "contact", "start", "handle", "check_pass", "check_fail", "close", "visit",
         "return", "ask_extension", "reopen", "invalidate")  # fmt: skip


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own."""
    home = tmp_path_factory.mktemp("departments")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


@contextmanager
def at_work(city: Stack, seed: int, rate: float) -> Iterator[dict[str, Any]]:
    """A simulation that goes on meanwhile; holds what its departments told when it has ended."""
    arguments = f"simulate --seed {seed} --rate {rate} --departments --pace {PACE} --json"
    told: dict[str, Any] = {}
    with subprocess.Popen(
        city.command(*arguments.split()), env=city.env, stdout=subprocess.PIPE, text=True
    ) as simulator:
        try:
            yield told
        finally:
            simulator.send_signal(signal.SIGINT)
        printed, _ = simulator.communicate(timeout=LIMIT_S)
    told |= json.loads(printed.splitlines()[-1])["departments"]


def rows(city: Stack, query: str) -> list[Any]:
    """What the tables say."""
    settings = load_settings(home=city.home, port=city.port)
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        return list(client.query(query).result_rows)


def test_what_departments_asked_for_is_what_the_order_book_has(city: Stack) -> None:
    def every_kind() -> bool:
        return set(STEPS) <= {
            verb for (verb,) in rows(city, "SELECT action FROM order_transitions")
        }

    with at_work(city, 4, RATE) as told:
        # As long as it takes: how soon that is depends on the machine.
        eventually(every_kind, LIMIT_S, 1.0)
    assert not told["failure"]
    assert told["unanswered"] == 0
    truth = [json.loads(line) for line in Path(told["truth"]).read_text("utf-8").splitlines()]
    done = {a["action_id"]: a for a in truth if a["outcome"] == "applied"}
    assert len({a["action_id"] for a in truth}) == len(truth) == sum(told["asked"].values())
    assert Counter(a["action"] for a in done.values()) == told["applied"]
    # What is refused came second: after a step of the system, of time, or of another of them; or its new
    # deadline would lie in a year whose holidays are not published yet.
    refused = {a["refusal"] for a in truth} - {""}
    assert refused <= {"stale", "illegal", "too_late", "no_calendar"}, told["refused"]
    assert len(done) > 0.8 * len(truth)

    report = city.json("audit", "--timeout", "180", timeout=300)
    assert report["clean"], report

    steps = {
        str(action): (str(verb), str(order), str(actor), str(role))
        for action, verb, order, actor, role in rows(
            city,
            "SELECT action_id, action, order_id, actor, role FROM order_transitions "
            "WHERE action_id != '' AND role != 'system'",
        )
    }
    expected = {i: (a["action"], a["order_id"], a["actor"], a["role"]) for i, a in done.items()}
    assert steps == expected
    outcomes = {str(i) for (i,) in rows(city, "SELECT action_id FROM action_outcomes")}
    assert {a["action_id"] for a in truth} <= outcomes
    ((unrated,),) = rows(
        city,
        "SELECT countIf(first_visit = '') FROM orders FINAL WHERE order_id IN "
        "(SELECT order_id FROM order_transitions WHERE action = 'visit')",
    )
    assert unrated == 0


def test_a_broker_that_dies_is_waited_for_and_nothing_is_asked_twice(city: Stack) -> None:
    def answers() -> int:
        ((number,),) = rows(city, "SELECT count() FROM action_outcomes")
        return int(number)

    before = answers()
    with at_work(city, 6, 5) as told:
        eventually(lambda: answers() > before + 20, LIMIT_S, 1.0)
        os.kill(city.parts()["kafka"]["pid"], signal.SIGKILL)
        killed = answers()
        eventually(lambda: answers() > killed + 50, LIMIT_S, 1.0)
    assert not told["failure"]
    assert told["unanswered"] == 0
    assert not any("already_done" in refused for refused in told["refused"])
    assert sum(told["asked"].values()) == sum(told["applied"].values()) + sum(
        told["refused"].values()
    )


def test_without_departments_nobody_acts(city: Stack) -> None:
    result = city.json(
        *("simulate", "--seed", "5", "--rate", "20", "--duration", "3", "--no-departments"),
        timeout=120,
    )
    assert result["departments"] is None
    assert not list((city.home / "truth").glob("*-5-*.ndjson"))
