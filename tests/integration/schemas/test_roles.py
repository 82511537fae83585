"""Roles held by the real engine itself: who reads what, who writes, and that limits hold."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from schemas import roles, tables
from schemas.queries import NamedQuery, load_queries
from tests.faults import python_path

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).with_name("role_process.py")
ROOT = Path(__file__).parents[3]
DENIED, READONLY, TOO_MANY_ROWS, QUOTA, CONSTRAINT = 497, 164, 396, 201, 452
SAMPLES = {"Date": "2026-03-17", "String": "", "UInt8": 0, "UInt32": 10, "Int8": 0, "Int64": 0}
NAMES = {"time_zone": "Asia/Shanghai", "scenes": "a:0101"}
PERSONAL = roles.load_access().personal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine's folder with the tables."""
    made = tmp_path_factory.mktemp("roles")
    _run(made)
    return made


def _run(folder: Path, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *arguments],
        input=given,
        env={**os.environ, "PYTHONPATH": python_path(ROOT), "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(
    folder: Path, role: str, statements: Sequence[str | tuple[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """What became of each statement under the role: its text, or its error's code."""
    pairs = [one if isinstance(one, tuple) else (one, {}) for one in statements]
    answer: list[dict[str, Any]] = json.loads(_run(folder, role, given=json.dumps(pairs)))
    return answer


def sample(query: NamedQuery) -> dict[str, str]:
    """Any parameters that the query takes."""
    given = {
        p.name: NAMES.get(p.name, SAMPLES[p.type]) for p in query.parameters if p.default is None
    }
    return {name: str(value) for name, value in query.bind(given).items()}


def test_the_screen_reads_what_every_public_query_needs_and_nothing_of_a_person(
    folder: Path,
) -> None:
    public = [query for query in load_queries().values() if not query.private]
    answers = ask(folder, "screen", [(query.sql, sample(query)) for query in public])
    refused = {
        query.name: answer["error"]
        for query, answer in zip(public, answers, strict=True)
        if "code" in answer
    }
    assert set(refused) == set(roles.load_access().not_for_screen), refused
    _reads_nothing_of(folder, "screen", PERSONAL)


def test_an_analyst_counts_everything_and_reads_nothing_that_leads_to_a_person(
    folder: Path,
) -> None:
    access = roles.load_access()
    _reads_nothing_of(folder, "analyst", PERSONAL)
    _reads_nothing_of(folder, "analyst", access.leading)
    known = tables.columns(tables.load_migrations())
    allowed = [
        f"SELECT {', '.join(names)} FROM {table} LIMIT 1"
        for table, names in roles.readable(access.roles["analyst"]).items()
    ]
    assert len(allowed) == len(known)
    assert all("text" in answer for answer in ask(folder, "analyst", allowed))


def _reads_nothing_of(folder: Path, role: str, hidden: Mapping[str, Sequence[str]]) -> None:
    columns = [(table, name) for table, names in hidden.items() for name in names]
    asked = [f"SELECT {name} FROM {table} LIMIT 1" for table, name in columns]
    # Nor by a condition, nor by everything at once.
    asked += [
        f"SELECT count() FROM {table} WHERE toString({name}) != 'x'" for table, name in columns
    ]
    asked += [f"SELECT * FROM {table} LIMIT 1" for table in hidden]
    for statement, answer in zip(asked, ask(folder, role, asked), strict=True):
        assert answer.get("code") == DENIED, (statement, answer)


@pytest.mark.parametrize("role", ["screen", "analyst"])
def test_a_reader_changes_nothing_and_stays_within_its_limits(folder: Path, role: str) -> None:
    rows = roles.load_access().roles[role].settings["max_result_rows"].value
    answers = ask(
        folder,
        role,
        [
            "INSERT INTO reports (report_id) VALUES ('x')",
            "DROP TABLE reports",
            "ALTER TABLE reports DELETE WHERE 1",
            "CREATE TABLE mine (a Int8) ENGINE = Memory",
            "SELECT name FROM system.users",
            "SELECT 1 SETTINGS max_execution_time = 86400",
            "SELECT 1 SETTINGS readonly = 0",
            "SELECT 1",
            f"SELECT number FROM numbers({rows + 1})",
        ],
    )
    codes = [answer.get("code") for answer in answers]
    assert codes[:4] == [READONLY] * 4 or set(codes[:4]) <= {READONLY, DENIED}
    assert codes[4] == DENIED
    assert codes[5] == CONSTRAINT
    assert codes[6] in (READONLY, CONSTRAINT)
    assert answers[7] == {"text": "1\n"}
    assert codes[8] == TOO_MANY_ROWS


def test_the_sink_inserts_its_views_count_and_it_reads_no_report(folder: Path) -> None:
    answers = ask(
        folder,
        "sink",
        [
            "INSERT INTO report_outcomes (report_id, channel, _topic, _partition, _offset) "
            "VALUES ('a', 'x', 't', 0, 7)",
            "SELECT _partition, max(_offset) FROM report_outcomes WHERE _topic = 't' GROUP BY _partition",
            "SELECT name FROM system.tables WHERE database = 'quanyu' AND name = 'reports'",
            "SELECT count() FROM system.settings WHERE name = 'async_insert'",
            "DESCRIBE TABLE reports",
            "INSERT INTO event_links (link_id, sign) VALUES ('a', 1)",
            "INSERT INTO order_transitions (order_id, at) VALUES ('a', 1)",
            "SELECT report_id FROM report_outcomes",
            "SELECT text FROM reports",
            "DROP TABLE reports",
        ],
    )
    assert all("text" in answer for answer in answers[:7]), answers[:7]
    assert answers[1]["text"] == "0\t7\n"
    assert answers[2]["text"] == "reports\n"
    assert [answer.get("code") for answer in answers[7:]] == [DENIED] * 3
    counted = ask(folder, "operator", ["SELECT sum(n) FROM outcome_counts"])
    assert counted == [{"text": "1\n"}]


def test_an_operator_does_what_commands_and_the_gateway_need(folder: Path) -> None:
    private = [query for query in load_queries().values() if query.private]
    answers = ask(
        folder,
        "operator",
        [
            *((query.sql, sample(query)) for query in private),
            "ALTER TABLE reports MODIFY SETTING parts_to_throw_insert = 1",
            "ALTER TABLE reports RESET SETTING parts_to_throw_insert",
            "SELECT count() FROM system.processes",
            "SELECT count() FROM system.parts",
            "CREATE DATABASE quanyu_backup",
            "CREATE TABLE quanyu_backup.reports AS quanyu.reports",
            "ALTER TABLE quanyu_backup.reports ATTACH PARTITION ALL FROM quanyu.reports",
            "DROP DATABASE quanyu_backup SYNC",
        ],
    )
    assert all("text" in answer for answer in answers), [a for a in answers if "code" in a]


@pytest.mark.parametrize("cluster", [None, "main"])
def test_every_statement_of_the_access_is_sql(clickhouse: Client, cluster: str | None) -> None:
    passwords = dict.fromkeys(roles.load_access().roles, "a long enough password")
    statements = roles.statements("quanyu", cluster, passwords)
    for statement in statements:
        assert "a long enough password" not in statement
        # The façade refuses what looks like two statements; the engine parses each.
        parsed = clickhouse.query("SELECT formatQuery({q:String})", parameters={"q": statement})
        assert parsed.result_rows[0][0]
        assert ("ON CLUSTER 'main'" in statement) == (cluster is not None)
