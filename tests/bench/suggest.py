"""How long somebody waits for a suggestion about texts and points of a simulated city's reports."""

import json
import time
from typing import Any

import clickhouse_connect
import httpx
import numpy as np

from deploy.local.home import prepare
from schemas.keys import Keys
from schemas.settings import Settings
from tests.bench.end_to_end import publish
from tests.bench.rig import process, storage, wait_answers

CHANNEL = "photo_app"
LIMIT_S = 300.0


def run(requests: int = 2_000, reports: int = 3_000) -> dict[str, Any]:
    """Percentiles of ``requests``, one after the other, while ``reports`` of a minute are the open events."""
    with storage() as stack:
        prepare(stack.settings)
        publish(stack, reports)
        with (
            process(stack, "connectors.sink"),
            process(stack, "streams.worker"),
            process(stack, "deploy.gateway") as screen,
        ):
            wait_answers(stack.settings.screen_port, screen, limit_s=60.0)
            _wait_decided(stack.settings, reports)
            return measure(stack.settings, requests)


def measure(settings: Settings, requests: int) -> dict[str, Any]:
    """Ask a running stack, in turn, about reports that it has; ms by the client's clock."""
    asked = _asked(settings, requests)
    waited, known, told = [], 0, 0
    key = Keys(settings.keys_path).of(CHANNEL)[0]
    with httpx.Client(
        base_url=f"http://127.0.0.1:{settings.screen_port}",
        headers={"X-API-Key": key},
        timeout=60.0,
        trust_env=False,
    ) as client:
        client.post("/suggest", json={}).raise_for_status()  # the city is read
        for body in asked:
            began = time.perf_counter()
            answer = client.post("/suggest", json=body)
            waited.append((time.perf_counter() - began) * 1000)
            answer.raise_for_status()
            found = answer.json()
            known += found["events_state"] == "known"
            told += bool(found["events"])
    p50, p99, longest = np.percentile(waited, [50, 99, 100]).tolist()
    return {
        "requests": len(asked),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "max_ms": round(longest, 1),
        "events_known": known,
        "with_events": told,
    }


def _asked(settings: Settings, requests: int) -> list[dict[str, Any]]:
    """Requests of accepted reports, again from the first when there are fewer."""
    rows = _query(
        settings,
        "SELECT concat(title, '。', text), address, lon, lat FROM reports WHERE device = '' "
        f"ORDER BY report_id LIMIT {int(requests)}",
    )
    bodies = []
    for text, address, lon, lat in rows:
        body = {"text": text, "address": address[:1000]}
        if lon is not None:
            body |= {"lon": lon, "lat": lat, "crs": "CGCS2000"}
        bodies.append(body)
    return [bodies[i % len(bodies)] for i in range(requests)]


def _wait_decided(settings: Settings, reports: int) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if int(_query(settings, "SELECT count() FROM report_outcomes")[0][0]) >= reports:
            return
        time.sleep(0.2)
    raise RuntimeError(f"not all of {reports} reports were decided within {LIMIT_S:.0f} s")


def _query(settings: Settings, sql: str) -> list[Any]:
    with clickhouse_connect.get_client(
        dsn=settings.clickhouse_url,
        database=settings.clickhouse_database,
        autogenerate_session_id=False,
    ) as client:
        return list(client.query(sql).result_rows)


if __name__ == "__main__":
    print(json.dumps(run()))
