"""``python -m tests.bench.year``: every named query on a year of a city, in the real engine and tables.

Each query runs cold (caches and the files' pages dropped), then warm and alone; the tiles also with eight
readers, each of whom asks one after the other without a pause, while reports are inserted. A query without
a value for one of its parameters, or that fails, ends the bench: nothing is left out. Queries that only
others read (``over``) are counted, not listed.
"""

import argparse
import contextlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from deploy import city_build, kpi
from deploy.gateway import BIGSCREEN_DIR
from deploy.screen import pack_parameters
from schemas import tables
from schemas.city import CityPack, load_city
from schemas.queries import connect, day_of, load_queries
from schemas.settings import Settings
from tests.bench import year_data
from tests.bench.machine import machine
from tests.conftest import Stack, free_base_port

#: Aims in ms: a tile of the screen, a page of rows behind a number.
AIMS = {"tile": 50, "page": 500}
#: A query is repeated so often, or for so long.
REPEATS, REPEAT_S = 30, 2.0
READERS, LOAD_RATE = 8, 2_000
#: A statement holds its span in memory, some 5 KB a report, and two run at once.
SPAN_REPORTS = 500_000
DAY_S = 24 * 3600
Say = Callable[..., None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A query with parameters; ``counted``: only how many rows it has is asked, as nobody reads it alone."""

    label: str
    kind: str
    query: str
    given: Mapping[str, Any]
    counted: bool = False

    def ask(self, client: Client) -> list[Mapping[str, Any]]:
        """Its rows."""
        query = load_queries()[self.query]
        sql = f"SELECT count() AS n FROM (\n{query.sql}\n)" if self.counted else query.sql
        found = client.query(
            sql, parameters=query.bind(self.given), settings={"max_execution_time": 300}
        )
        return list(found.named_results())


def fill(client: Client, city: CityPack, reports: int, seed: int, say: Say) -> dict[str, Any]:
    """Fill an empty database with a year of so many reports."""
    year_data.prepare(client, city, reports)
    now = year_data.now_ms(city.time_zone)
    spans: list[tuple[int, int]] = []
    held = begin = 0
    for since, _, n in year_data.hours(reports, city.time_zone):
        begin = begin or since
        held += n
        if held >= min(SPAN_REPORTS, max(1, reports // 4)):
            spans.append((begin, since + 3600))
            held = begin = 0
    spans.append((begin or now // 1000, now // 1000))
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for number, _ in enumerate(
            pool.map(lambda span: year_data.fill(client, seed, span[0], span[1], now), spans), 1
        ):
            say(f"{number} of {len(spans)} spans in {time.monotonic() - started:.0f} s")
    seconds = time.monotonic() - started
    counted = "SELECT sum(rows) FROM system.parts WHERE active AND database = currentDatabase()"
    rows = int(client.query(counted).result_rows[0][0])
    return {"rows": rows, "seconds": round(seconds, 1), "rows_per_s": round(rows / seconds)}


def settle(client: Client, limit_s: float) -> float:
    """Wait until the engine merges no more; how many seconds that took."""
    started = time.monotonic()
    quiet = 0
    while quiet < 3 and time.monotonic() - started < limit_s:
        busy = client.query("SELECT count() FROM system.merges").result_rows[0][0]
        quiet = 0 if busy else quiet + 1
        time.sleep(0.5)
    return round(time.monotonic() - started, 1)


def samples(client: Client, city: CityPack, now: int) -> dict[str, Any]:
    """A value for every parameter that has to name something, from the newest rows."""
    day = now - 2 * DAY_S * 1000

    def one(sql: str) -> Any:
        rows = client.query(sql, parameters={"day": day // 1000}).result_rows
        if not rows:
            raise SystemExit(f"the year is too small: no row for {sql}")
        return rows[0][0]

    recent = ">= toDateTime({day:UInt32}, 'UTC')"
    event = one(
        f"SELECT event_id FROM event_links WHERE received_at {recent} GROUP BY event_id "
        "ORDER BY count() DESC, event_id LIMIT 1"
    )
    reports = one(
        f"SELECT groupArray(report_id) FROM (SELECT report_id FROM reports WHERE received_at {recent} LIMIT 20)"
    )
    return {
        "event_id": event,
        "event_ids": event,
        "order_id": one(f"SELECT order_id FROM orders WHERE opened_at {recent} LIMIT 1"),
        "report_id": reports[0],
        "report_ids": ",".join(reports),
        "action_id": one("SELECT action_id FROM action_outcomes ORDER BY decided_at DESC LIMIT 1"),
        "ids": ",".join(reports),
        "zone": one(f"SELECT zone FROM events WHERE opened_at {recent} LIMIT 1"),
        "class_codes": ",".join(list(city.classes)[:5]),
        "unit_code": one(f"SELECT unit_code FROM orders WHERE opened_at {recent} LIMIT 1"),
    }


def questions(client: Client, city: CityPack, now: int) -> tuple[list[Question], list[str]]:
    """Every named query, and every page of rows that one opens, with the parameters that its asker gives.

    Second: numbers that open nothing, as their query has no row in this year.
    """
    queries = load_queries()
    tiles = {
        name
        for tile in json.loads((BIGSCREEN_DIR / "tiles.json").read_text(encoding="utf-8"))
        for name in tile["queries"]
    }
    names = samples(client, city, now)
    clock = {"day": day_of(now, city.time_zone), "time_zone": city.time_zone, "at": now}
    month = kpi.Period(now - 30 * DAY_S * 1000, now, now)
    #: What who asks gives beside what has to be given: Open311 asks three days at once, merge a box.
    asked: dict[str, dict[str, Any]] = {
        "open311_page": {"since": now - 3 * DAY_S * 1000, "until": now},
        "open311_requests": {"since": now - 3600 * 1000, "until": now},
        "events_nearby": {"since": now - 7 * DAY_S * 1000, "until": now, "zone": names["zone"],
                          "class_codes": names["class_codes"], "west": 113_600_000,
                          "south": 34_700_000, "east": 113_640_000, "north": 34_740_000},
        "events_changed": {"since": now - 5_000, "opened": now - 8 * DAY_S * 1000},
        "opening_reports": {"since": now - 2 * DAY_S * 1000, "until": now, "ids": names["ids"]},
        "order_book": {"unit_code": names["unit_code"]},
        "taught": {"since": now - 30 * DAY_S * 1000},
    }  # fmt: skip
    alone = {query.over for query in queries.values()} - tiles - {""}
    found: list[Question] = []
    pages: list[Question] = []
    unopened: list[str] = []
    for name, query in queries.items():
        has = {parameter.name for parameter in query.parameters}
        given = {k: v for k, v in {**clock, **pack_parameters(city)}.items() if k in has}
        if name in kpi.QUERIES and "since" in has:
            given = kpi.taken(name, kpi.parameters(city, month))
        if name in ("day_scores", "ranking", "scorecard", "scorecard_staff"):
            given["by"] = "centre"
        given |= asked.get(name, {})
        for parameter in query.parameters:
            if parameter.default is None and parameter.name not in given:
                if parameter.name not in names:
                    raise SystemExit(f"query {name}: the bench has no value for {parameter.name}")
                given[parameter.name] = names[parameter.name]
        kind = "tile" if name in tiles else "other"
        question = Question(name, kind, name, given, name in alone and query.private)
        found.append(question)
        rows = question.ask(client) if query.drill_down else []
        for drill in query.drill_down:
            # The largest number has the most to list.
            row = max(rows, key=lambda row: row[drill.column] or 0, default=None)
            label = f"{name}.{drill.column} → {drill.query}"
            if row is None:
                unopened.append(label)
                continue
            pages.append(Question(label, "page", drill.query, drill.arguments(row, given)))
    return found + pages, unopened


def drop_caches(client: Client, home: Path) -> None:
    """What the engine and the system remember of the tables' files is forgotten."""
    for cache in ("MARK", "UNCOMPRESSED", "PRIMARY INDEX"):
        client.command(f"SYSTEM DROP {cache} CACHE")
    # Folders of parts that are merged away go while they are walked through.
    for folder, _, names in os.walk(home / "clickhouse"):
        for name in names:
            with contextlib.suppress(OSError), Path(folder, name).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cpu_ms(pid: int) -> float:
    """CPU time that a process has used up to now: what others do on the machine is no part of it."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            spent += int(task.read_text().split()[0])
    return spent / 1e6


def timed(work: Callable[..., T], *given: Any, **named: Any) -> tuple[float, T]:
    """How long a piece of work takes, ms, and what it gives."""
    started = time.perf_counter()
    found = work(*given, **named)
    return (time.perf_counter() - started) * 1000, found


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and p99, ms; of few values the p99 is nearly the longest."""
    p50, p99 = np.percentile(values, [50, 99])
    return round(float(p50), 1), round(float(p99), 1)


def alone(
    client: Client, home: Path, pid: int, asked: list[Question], repeat_s: float, say: Say
) -> list[dict[str, Any]]:
    """Each question cold once, then warm and alone."""
    results = []
    for question in asked:
        drop_caches(client, home)
        cold, rows = timed(question.ask, client)
        values: list[float] = []
        spent: list[float] = []
        end = time.monotonic() + repeat_s
        question.ask(client)
        while len(values) < REPEATS and (time.monotonic() < end or len(values) < 3):
            before = cpu_ms(pid)
            values.append(timed(question.ask, client)[0])
            spent.append(cpu_ms(pid) - before)
        p50, p99 = quantiles(values)
        results.append(
            {
                "name": question.label, "kind": question.kind, "counted": question.counted,
                "aim_ms": AIMS.get(question.kind), "rows": len(rows), "cold_ms": round(cold, 1),
                "best_ms": round(min(values), 1), "cpu_ms": round(min(spent), 1), "p50_ms": p50,
                "p99_ms": p99, "runs": len(values),
            }
        )  # fmt: skip
        say(f"{question.label}: cold {cold:.0f} ms, warm p50 {p50} p99 {p99} ms")
    return results


def loaded(
    settings: Settings, city: CityPack, asked: list[Question], seconds: float, first: int, seed: int
) -> dict[str, Any]:
    """So many readers ask in random order while reports come at a steady rate; medians, p99, rate reached."""
    stop = threading.Event()
    took: dict[str, list[float]] = {question.label: [] for question in asked}
    broken: list[str] = []
    now = year_data.now_ms(city.time_zone) // 1000

    def client() -> Client:
        return connect(settings, connect_s=5, answer_s=300, at_once=1)

    def read(number: int) -> None:
        choice = random.Random(number)
        with client() as own:
            while not stop.is_set():
                question = choice.choice(asked)
                try:
                    ms, _ = timed(question.ask, own)
                except Exception as error:
                    broken.append(f"{question.label}: {error}")
                    return
                took[question.label].append(ms)

    with client() as writer:
        year_data.live(writer, now, first, LOAD_RATE, round(seconds))
        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        started = time.monotonic()
        for reader in readers:
            reader.start()
        inserted = 0
        for second in range(round(seconds)):
            year_data.fill(writer, seed, now + second, now + second + 1, 1000 * (now + second + 1))
            inserted += LOAD_RATE
            if time.monotonic() - started > seconds:
                break
            time.sleep(max(0.0, started + second + 1 - time.monotonic()))
        spent = time.monotonic() - started
        stop.set()
        for reader in readers:
            reader.join()
    if broken:
        raise SystemExit(f"a query failed under load: {broken[0][:500]}")
    return {
        "readers": READERS,
        "seconds": round(spent, 1),
        "reports_per_s": round(inserted / spent),
        "asked_reports_per_s": LOAD_RATE,
        "queries_per_s": round(sum(map(len, took.values())) / spent, 1),
        "queries": {name: (*quantiles(ms), len(ms)) for name, ms in took.items() if ms},
    }


def bulk(client: Client, table: str, rows: int = 200_000, block: int = 50_000) -> int:
    """Rows a second of inserting whole blocks, as the sink does, into a table like this one."""
    client.command(f"CREATE TABLE {table}_copy AS {table}")
    try:
        blocks = [
            client.raw_query(
                f"SELECT * FROM {table} LIMIT {block} OFFSET {number * block}", fmt="Native"
            )
            for number in range(rows // block)
        ]
        spent = 0.0
        for number, body in enumerate(blocks):
            token = {"insert_deduplication_token": f"bulk-{number}", "async_insert": 0}
            spent += timed(
                client.raw_insert, f"{table}_copy", insert_block=body, fmt="Native", settings=token
            )[0]
        inserted = int(client.query(f"SELECT count() FROM {table}_copy").result_rows[0][0])
        return round(inserted / spent * 1000)
    finally:
        client.command(f"DROP TABLE {table}_copy")


def on_disk(client: Client, reports: int) -> list[dict[str, Any]]:
    """Rows and bytes of each table."""
    found = client.query(
        "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table ORDER BY bytes DESC"
    )
    return [
        {**row, "bytes_per_report": round(row["bytes"] / reports, 1)}
        for row in found.named_results()
        if row["table"] != "schema_migrations"
    ]


@contextlib.contextmanager
def engine(directory: Path | None) -> Iterator[tuple[Settings, int]]:
    """The engine of a directory, or of a temporary one that is removed, and its process."""
    with contextlib.ExitStack() as held:
        home = directory or Path(
            held.enter_context(tempfile.TemporaryDirectory(prefix="quanyu-year-"))
        )
        home.mkdir(parents=True, exist_ok=True)
        stack = Stack(Settings(home=home, port=free_base_port()), {})
        held.callback(stack.stop)
        stack.start_clickhouse()
        yield stack.settings, stack.processes["clickhouse"].pid


def run(
    reports: int, *, directory: Path | None = None, seed: int = 1, load_s: float = 60.0,
    repeat_s: float = REPEAT_S,
    say: Say = lambda *_: None,
) -> dict[str, Any]:  # fmt: skip
    """The whole bench. A ``directory`` with a year of that size in it is measured as it is."""
    city = load_city(Settings().city)
    with engine(directory) as (settings, pid):
        tables.apply(settings)
        with connect(settings, connect_s=5, answer_s=3600, at_once=4) as client:
            there = client.query("SELECT sum(n) FROM outcome_counts").result_rows[0][0]
            filled = None
            if there < reports:
                if there:
                    raise SystemExit(f"{directory} has a year of another size; name an empty one")
                filled = fill(client, city, reports, seed, say)
                filled["merged_s"] = settle(client, 600)
            disk = on_disk(client, reports)
            now = year_data.now_ms(city.time_zone)
            asked, unopened = questions(client, city, now)
            results = alone(client, settings.home, pid, asked, repeat_s, say)
            inserted = {
                name: bulk(client, name) for name in ("reports", "report_outcomes", "order_transitions")
            }  # fmt: skip
            screen = [question for question in asked if question.kind == "tile"]
            # Each time it runs, the live reports are others.
            first = max(
                reports, int(client.query("SELECT sum(n) FROM outcome_counts").result_rows[0][0])
            )
            busy = loaded(settings, city, screen, load_s, first, seed) if load_s else None
    for result in results:
        if busy and result["name"] in busy["queries"]:
            result["loaded_p50_ms"], result["loaded_p99_ms"], result["loaded_runs"] = busy[
                "queries"
            ][result["name"]]
    if busy:
        del busy["queries"]
    return {
        "machine": machine(), "reports": reports, "fill": filled,
        "bulk_insert_rows_per_s": inserted,
        "tables": disk, "bytes_per_report": round(sum(row["bytes_per_report"] for row in disk), 1),
        "load": busy, "queries": results, "unopened": unopened,
    }  # fmt: skip


def show(result: Mapping[str, Any], console: Console) -> None:
    """The result as tables."""
    title = f"{result['reports']:,} reports; ms; aim p99: tile {AIMS['tile']}, page {AIMS['page']}"
    columns = (
        "query",
        "kind",
        "rows",
        "cold",
        "CPU",
        "best",
        "p50",
        "p99",
        "loaded p50",
        "loaded p99",
    )
    table = Table(*columns, title=title)
    for row in result["queries"]:
        late = row["aim_ms"] and row["p99_ms"] > row["aim_ms"]
        name = row["name"] + (" (counted)" if row["counted"] else "")
        numbers = [row.get(key, "") for key in ("rows", "cold_ms", "cpu_ms", "best_ms", "p50_ms")]
        more = [row.get(key, "") for key in ("loaded_p50_ms", "loaded_p99_ms")]
        table.add_row(
            name,
            row["kind"],
            *map(str, numbers),
            f"{row['p99_ms']}{' !' if late else ''}",
            *map(str, more),
        )
    console.print(table)
    table = Table("table", "rows", "parts", "MB", "bytes per report")
    for row in result["tables"]:
        table.add_row(
            row["table"], f"{row['rows']:,}", str(row["parts"]), f"{row['bytes'] / 1e6:,.0f}",
            str(row["bytes_per_report"]),
        )  # fmt: skip
    console.print(table)
    for key in (
        "machine",
        "fill",
        "bulk_insert_rows_per_s",
        "bytes_per_report",
        "load",
        "unopened",
    ):
        console.print(f"{key}: {result[key]}")


def main() -> None:
    """Run it; progress on stderr, tables or one JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="quanyu bench year")
    parser.add_argument("--reports", type=int, default=36_000_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--load-s", type=float, default=60.0)
    parser.add_argument("--repeat-s", type=float, default=REPEAT_S)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    progress = Console(stderr=True, highlight=False)
    city_build.build(load_city(Settings().city), say=progress.print)
    result = run(
        arguments.reports,
        directory=arguments.directory,
        load_s=arguments.load_s,
        repeat_s=arguments.repeat_s,
        say=progress.print,
    )
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result, Console(highlight=False, width=160))


if __name__ == "__main__":
    main()
