"""The embedded engine behind its HTTP interface: a client sees a ClickHouse server."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clickhouse_connect
import httpx
import lz4.frame  # type: ignore[import-untyped]  # it has no stubs
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from connectors.sink.table import INSERT_SETTINGS
from schemas import tables
from schemas.settings import Settings
from tests.conftest import Fresh, Stack, free_base_port

pytestmark = pytest.mark.integration

Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An engine of its own, which tests may kill."""
    settings = Settings(home=tmp_path_factory.mktemp("engine"), port=free_base_port())
    stack = Stack(settings, {})
    try:
        stack.start_clickhouse()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def settings(engine: Stack) -> Settings:
    """Instead of the run's: the engine of this module."""
    return engine.settings


@pytest.fixture
def post(engine: Stack) -> Iterator[Post]:
    """``curl``: a query in the body, settings and parameters in the URL."""
    with httpx.Client(base_url=engine.settings.clickhouse_url, timeout=30) as client:

        def send(
            sql: str | bytes, headers: dict[str, str] | None = None, **query: str
        ) -> httpx.Response:
            content = sql if isinstance(sql, bytes) else sql.encode()
            return client.post("/", content=content, params=query, headers=headers)

        yield send


@pytest.fixture
def database(clickhouse: Client, fresh: Fresh) -> str:
    """A database of this test with a fact table and a counter fed by it, both deduplicating."""
    window = "SETTINGS non_replicated_deduplication_window = 100"
    for sql in (
        f"CREATE DATABASE {fresh.database}",
        f"CREATE TABLE {fresh.database}.facts (k UInt32, s String) "
        f"ENGINE = MergeTree ORDER BY k {window}",
        f"CREATE TABLE {fresh.database}.counts (s String, n SimpleAggregateFunction(sum, UInt64)) "
        f"ENGINE = AggregatingMergeTree ORDER BY s {window}",
        f"CREATE MATERIALIZED VIEW {fresh.database}.v TO {fresh.database}.counts "
        f"AS SELECT s, count() AS n FROM {fresh.database}.facts GROUP BY s",
    ):
        clickhouse.command(sql)
    return fresh.database


def kill_and_start(engine: Stack) -> None:
    """It dies without a word and comes back."""
    engine.processes["clickhouse"].kill()
    engine.processes["clickhouse"].wait()
    engine.start_clickhouse()


def test_a_plain_client_inserts_and_reads_back(clickhouse: Client, database: str) -> None:
    rows = [[n, f"街道{n % 3}"] for n in range(10_000)]
    summary = clickhouse.insert("facts", rows, ["k", "s"], database=database)
    assert summary.written_rows == 10_000
    found = clickhouse.query(
        f"SELECT count(), uniq(s) FROM {database}.facts WHERE s != {{none:String}}",
        parameters={"none": "it's"},
        settings={"max_threads": 1},
    )
    assert found.result_rows == [(10_000, 3)]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_every_compression_of_the_client_is_understood(
    engine: Stack, database: str, compression: str | bool
) -> None:
    client = clickhouse_connect.get_client(
        dsn=engine.settings.clickhouse_url, compress=compression, database=database
    )
    client.insert("facts", [[n, "x" * 50] for n in range(5000)], ["k", "s"])
    assert client.query("SELECT count() FROM facts").result_rows == [(5000,)]
    client.close()


def test_a_body_that_was_cut_on_its_way_inserts_nothing(post: Post, database: str) -> None:
    rows = b"".join(b'{"k":%d,"s":"a"}\n' % n for n in range(5000))
    for encoding, packed in (("gzip", gzip.compress(rows)), ("lz4", lz4.frame.compress(rows))):
        answer = post(
            packed[:-20],
            {"Content-Encoding": encoding},
            query=f"INSERT INTO {database}.facts FORMAT JSONEachRow",
        )
        assert answer.status_code != 200
        assert "not valid" in answer.text
    assert post(f"SELECT count() FROM {database}.facts").text == "0\n"


def test_rows_that_are_refused_leave_nothing_to_the_next_insert(post: Post, database: str) -> None:
    insert = f"INSERT INTO {database}.facts FORMAT JSONEachRow\n"
    for n in range(10):
        long = json.dumps({"k": n, "s": "x" * 10_000}) + "\n"
        assert post(insert + long + '{"k": "no number", "s": "' + "y" * 500).status_code == 400
        assert post(insert + long).status_code == 200
        assert post(insert + json.dumps({"k": n, "s": "short"})).status_code == 200
    said = post(f"SELECT count(), uniqExact(k, s), sum(length(s)) FROM {database}.facts").text
    assert said == f"20\t20\t{10 * (10_000 + 5)}\n"


def test_curl_gets_formats_parameters_and_settings(post: Post, settings: Settings) -> None:
    url = settings.clickhouse_url
    assert httpx.get(f"{url}/ping").text == "Ok.\n"
    assert httpx.get(f"{url}/", params={"query": "SELECT 1"}).text == "1\n"
    answer = post("SELECT {n:UInt8} AS n FORMAT JSON", param_n="7", query_id="abc")
    assert answer.json()["data"] == [{"n": 7}]
    assert answer.headers["x-clickhouse-query-id"] == "abc"
    assert answer.headers["x-clickhouse-format"] == "JSON"
    assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "0"
    assert post("SELECT 1 AS a", default_format="JSONEachRow").text == '{"a":1}\n'
    assert post("SELECT getSetting('max_threads')", max_threads="3").text == "3\n"


def test_settings_of_one_request_are_not_those_of_the_next(post: Post) -> None:
    block = "SELECT getSetting('max_block_size')"
    before = post(block).text
    for _ in range(12):
        post("SELECT 1", max_block_size="77")
        # The second setting does not exist, after the first was set.
        assert post("SELECT 1", max_block_size="77", no_such_setting="1").status_code == 400
    assert {post(block).text for _ in range(12)} == {before}
    # So many at once that those which had the setting must serve those which have it not.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: post("SELECT sleep(0.2)", max_block_size="77"), range(4)))
        answers = pool.map(lambda _: post(f"{block}, sleep(0.2)").text, range(8))
        assert {answer.split("\t")[0] + "\n" for answer in answers} == {before}
    assert post("SELECT 1", database="no_such_database").status_code == 404
    assert {post("SELECT currentDatabase()").text for _ in range(12)} == {"default\n"}


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT * FROM no_such_table", "60", 404),
        ("SELEC 1", "62", 400),
        ("SELECT no_such_column", "47", 404),
        ("SELECT throwIf(1)", "395", 500),
        ("SELECT 1; SELECT 2", "62", 400),
    ],
)
def test_an_error_has_the_servers_code_and_words(
    post: Post, sql: str, code: str, status: int
) -> None:
    answer = post(sql)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_a_client_learns_the_code_of_its_error(clickhouse: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        clickhouse.query("SELECT * FROM no_such_table")


def test_a_query_ends_at_its_limit_of_time(post: Post) -> None:
    answer = post(
        "SELECT sleepEachRow(0.05) FROM numbers(200)", max_execution_time="0.3", max_block_size="1"
    )
    assert answer.headers["x-clickhouse-exception-code"] == "159"


def test_no_client_reads_or_writes_a_file(post: Post, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("hidden\n", encoding="utf-8")
    for sql in (
        f"SELECT * FROM file('{secret}', 'LineAsString')",
        f"SELECT file('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM `{secret}`",
        f"SELECT * FROM default.`{secret}`",
        f"CREATE TABLE leak (a String) ENGINE = File(CSV, '{secret}')",
        f"SELECT 1 INTO OUTFILE '{tmp_path}/out'",
        f"INSERT INTO FUNCTION file('{tmp_path}/out', 'CSV', 'a UInt8') SELECT 1",
    ):
        answer = post(sql)
        assert answer.status_code in (400, 403, 404, 500), sql
        assert "hidden" not in answer.text
    answer = post("SELECT * FROM {t:Identifier}", param_t=str(secret))
    assert answer.status_code == 404
    assert sorted(tmp_path.iterdir()) == [secret]


def test_a_get_changes_nothing(post: Post, settings: Settings, database: str) -> None:
    answer = httpx.get(
        f"{settings.clickhouse_url}/", params={"query": f"DROP TABLE {database}.facts"}
    )
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    assert post(f"EXISTS {database}.facts").text == "1\n"


def test_a_repeated_block_counts_once_in_table_and_view_even_after_a_kill(
    engine: Stack, post: Post, database: str
) -> None:
    rows = "".join(json.dumps({"k": n, "s": "a"}) + "\n" for n in range(1000))
    insert = f"INSERT INTO {database}.facts FORMAT JSONEachRow\n{rows}"
    token = {
        "insert_deduplication_token": "t:0:0-999",
        "deduplicate_blocks_in_dependent_materialized_views": "1",
    }
    exact = "1000\t1000\n"
    query = f"SELECT count(), (SELECT sum(n) FROM {database}.counts) FROM {database}.facts"
    for _ in range(2):
        assert post(insert, **token).status_code == 200
        assert post(query).text == exact
    kill_and_start(engine)
    assert post(query).text == exact
    assert post(insert, **token).status_code == 200
    assert post(query).text == exact


def test_blocks_that_are_repeated_over_the_engines_first_start_count_once_in_every_counter(
    engine: Stack, post: Post, fresh: Fresh
) -> None:
    tables.apply(engine.settings.model_copy(update={"clickhouse_database": fresh.database}))
    counted = {
        "report_outcomes": ("outcome_counts",),
        "event_links": ("link_counts",),
        "order_transitions": ("transition_counts", "orders_in_hand", "matters", "order_scores"),
    }
    row = '{"version": 1, "to_state": "SIGNED", "from_state": "UNKNOWN", "due_at": "2026-11-28 03:00:00"}'

    def insert() -> None:
        for facts in counted:
            insert = f"INSERT INTO {facts} FORMAT JSONEachRow\n{row}"
            settings = {str(k): str(v) for k, v in INSERT_SETTINGS.items()} | {
                "input_format_skip_unknown_fields": "1",
                "insert_deduplication_token": f"{facts}:0:0-0",
            }
            assert post(insert, database=fresh.database, **settings).status_code == 200

    def counts() -> dict[str, str]:
        views = [view for views in counted.values() for view in views]
        return {v: post(f"SELECT sum(n) FROM {fresh.database}.{v}").text for v in views}

    insert()
    once = counts()
    assert "0\n" not in once.values()
    kill_and_start(engine)
    insert()
    assert counts() == once


def test_an_insert_that_was_answered_survives_a_stop(
    engine: Stack, post: Post, database: str
) -> None:
    assert post(f"INSERT INTO {database}.facts VALUES (1, 'file(''x'')')").status_code == 200
    engine.processes["clickhouse"].terminate()
    assert engine.processes["clickhouse"].wait(15) == 0
    engine.start_clickhouse()
    assert post(f"SELECT s FROM {database}.facts").text == "file(\\'x\\')\n"


def test_slow_readers_do_not_hold_up_an_insert(engine: Stack, post: Post, database: str) -> None:
    slow = "SELECT sleepEachRow(0.1) FROM numbers(12) SETTINGS max_block_size = 1"
    done = []

    def read() -> None:
        done.append(
            httpx.post(engine.settings.clickhouse_url, content=slow, timeout=60).status_code
        )

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    assert post(f"INSERT INTO {database}.facts VALUES (1, 'a')").status_code == 200
    finished_before = len(done)
    for reader in readers:
        reader.join()
    assert finished_before == 0
    assert done == [200] * 8
