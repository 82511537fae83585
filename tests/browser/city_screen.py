"""A screen over an engine of its own with known rows: what the tests of this folder look at."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import clickhouse_connect
import httpx
import uvicorn
from prometheus_client import start_http_server

from connectors.publish import Publisher
from deploy.flows import Topology
from deploy.gateway import create_app
from deploy.monitor import read_channels
from deploy.positions import Partition, Positions
from deploy.silence import ChannelState
from schemas import tables
from schemas.channels import load_channels
from schemas.city import city_folder
from schemas.metrics import COLLECTORS
from schemas.settings import Settings
from schemas.topics import raw_topic
from tests.browser.pictures import SIZES, chromium, ready
from tests.city_day import CHANNELS, city_day
from tests.conftest import Stack, eventually, free_base_port


class Nobody:
    """A publisher that is never asked."""

    def close(self, limit_s: float = 1.0) -> None:
        """Nothing to wait for."""


class Heard:
    """Newest records as a broker would tell them: channel → age in seconds; others were never heard."""

    def __init__(self, ages: dict[str, float], now_ms: int) -> None:
        self._newest = {(raw_topic(n), 0): round(now_ms - 1000 * age) for n, age in ages.items()}

    def newest(self, partitions: list[Partition]) -> dict[Partition, int]:
        return {p: at for p, at in self._newest.items() if p in partitions}


@dataclass
class Screen:
    """An engine of its own with known rows, the gateway before it, and a monitor's metrics."""

    settings: Settings
    stack: Stack
    zone: ZoneInfo

    @property
    def yesterday(self) -> date:
        """The city's day before today."""
        return datetime.now(self.zone).date() - timedelta(days=1)

    def judge(
        self, ages: dict[str, float], before: dict[str, ChannelState] | None = None
    ) -> dict[str, ChannelState]:
        """What the monitor does with the ages of the channels' newest records."""
        now_ms = round(datetime.now(UTC).timestamp() * 1000)
        channels = {name: raw_topic(name) for name in load_channels()}
        flows = Topology(channels, {}, {}, [], [(topic, 0) for topic in channels.values()])
        heard = cast(Positions, Heard(ages, now_ms))
        return read_channels(heard, flows, {}, before or {}, now_ms)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.screen_port}"

    def insert(self, table: str, **row: Any) -> None:
        client = clickhouse_connect.get_client(
            dsn=self.settings.clickhouse_url,
            database=self.settings.clickhouse_database,
            autogenerate_session_id=False,
        )
        client.insert(table, [list(row.values())], column_names=list(row))
        client.close()

    def rows(self, name: str, **params: Any) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/queries/{name}", params=params).json()
        return cast(list[dict[str, Any]], answer["rows"])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def zone_at_noon(now: datetime) -> str:
    """A time zone in which it is about noon: no midnight may pass while a test looks at today."""
    hours = 12 - now.astimezone(UTC).hour
    return f"Etc/GMT{-hours:+d}"  # this database counts westwards


def city_at_noon(folder: Path, now: datetime) -> tuple[str, str]:
    """Zhengzhou's pack moved to where it is noon, and that zone's name."""
    shutil.copytree(city_folder("zhengzhou"), folder)
    zone, file = zone_at_noon(now), folder / "city.yaml"
    told = file.read_text(encoding="utf-8")
    assert "time_zone: Asia/Shanghai" in told
    file.write_text(told.replace("Asia/Shanghai", zone), encoding="utf-8")
    return str(folder), zone


@contextmanager
def city_screen(home: Path) -> Iterator[Screen]:
    """A city's day in an engine of its own, the gateway before it and a monitor beside it."""
    now = datetime.now(UTC)
    city, zone = city_at_noon(home / "city", now)
    settings = Settings(home=home, port=free_base_port(), city=city)
    made = Screen(settings, Stack(settings, {}), ZoneInfo(zone))
    made.stack.start_clickhouse()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, cast(Publisher, Nobody())),
            host="127.0.0.1",
            port=settings.screen_port,
            log_level="error",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    monitor, _ = start_http_server(settings.metrics_port("monitor"), registry=COLLECTORS)
    try:
        tables.apply(settings)
        client = clickhouse_connect.get_client(
            dsn=settings.clickhouse_url,
            database=settings.clickhouse_database,
            autogenerate_session_id=False,
        )
        city_day(now, zone=zone).insert(client)
        client.close()
        eventually(lambda: answers(f"{made.url}/healthz"))
        made.judge(dict.fromkeys(CHANNELS, 5.0))
        yield made
    finally:
        monitor.shutdown()
        server.should_exit = True
        thread.join(15)
        made.stack.stop()


@contextmanager
def opened(screen: Screen, size: str = "desk") -> Iterator[tuple[Any, list[str]]]:
    """The page with its numbers drawn, and what the console said."""
    said: list[str] = []
    with chromium() as browser:
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, locale="zh-CN")
        page.on(
            "console",
            lambda message: (
                said.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(screen.url)
        ready(page)
        yield page, said


def shown(page: Any, selector: str) -> dict[str, int]:
    """Exact numbers below a selector, by column or by label."""
    return cast(
        dict[str, int],
        page.eval_on_selector_all(
            selector,
            "nodes => Object.fromEntries(nodes.map(n => [n.dataset.column ?? n.dataset.key,"
            " Number(n.querySelector('[data-value]').dataset.value)]))",
        ),
    )
