"""What the screen may cost, measured in a real Chromium: paint, updates, memory, frames, how far behind.

The figures are printed (``pytest -s``); the bounds are those of a wall that hangs for days.
"""

import json
import time
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import numpy as np
import pytest

from deploy.areas import below
from schemas.city import load_city
from tests.browser.city_screen import Screen, opened, shown
from tests.browser.pictures import CHROMIUM, SIZES, chromium, ready

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="no chromium: apt-get install chromium fonts-noto-cjk"
    ),
]

#: Drawing that has nothing to do with the page's own, and what it takes of the main thread of the machine that
#: the budget is for: one and the same machine is half as fast on another day.
DRAWING = """async () => {
  const frame = () => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  const sheet = document.createElement("div");
  sheet.style = "position: fixed; inset: 0; z-index: 99";
  for (let i = 0; i < 3000; i += 1) {
    sheet.append(Object.assign(document.createElement("span"), { textContent: `郑州${i} ` }));
  }
  document.body.append(sheet);
  await frame();
  await frame();
  sheet.remove();
  await frame();
}"""
DRAWING_MS = 21.0

SEED = 4103
POINTS = 20_000
DAY_MS = 86_400_000
#: Of an accelerated day, after whose first part the heap may not grow any more.
PARTS = 24
#: The page's time goes so much faster; it asks as often as it comes to.
FASTER = 1_000

#: Answers the page's requests from memory with numbers that change, so that a day takes minutes.
ANSWERED_FROM_MEMORY = """
(recorded) => {
  let round = 0;
  const vary = (value) => (Number.isInteger(value) && value < 1e9 ? value + round : value);
  const fresh = (rows) => rows.map((row) => Object.fromEntries(Object.entries(row).map(
    ([key, value]) => [key, /code|level|hour/.test(key) ? value : vary(value)])));
  window.rounds = () => round;
  window.fetch = async (url) => {
    const { pathname, searchParams } = new URL(url, location.href);
    let body = recorded[pathname];
    if (pathname === '/api/tiles') {
      round += 1;
      body = { tiles: Object.fromEntries(searchParams.get('names').split(',').map((name) => [name,
        { rows: fresh(recorded.tiles[name].rows), at: Date.now() }])) };
    }
    return new Response(JSON.stringify(body ?? { error: pathname }), { status: body ? 200 : 404 });
  };
}
"""
#: Timers and clock of the page, so many times as fast.
TIME_GOES_FASTER = """
(faster) => {
  const [now, timeout, interval] = [Date.now, window.setTimeout, window.setInterval];
  const began = now();
  Date.now = () => began + faster * (now() - began);
  window.setTimeout = (call, ms) => timeout(call, (ms ?? 0) / faster);
  window.setInterval = (call, ms) => interval(call, (ms ?? 0) / faster);
}
"""
#: How long each callback of an animation frame keeps the main thread.
WATCH_FRAMES = """
() => {
  const own = window.requestAnimationFrame.bind(window);
  window.frames_ms = [];
  window.requestAnimationFrame = (callback) => own((at) => {
    const began = performance.now();
    callback(at);
    window.frames_ms.push(performance.now() - began);
  });
}
"""


def test_the_first_paint_is_within_a_second_and_a_half(screen: Screen) -> None:
    paints = []
    with chromium() as browser:
        for _ in range(3):
            page = browser.new_page(viewport={"width": 1920, "height": 1080}, locale="zh-CN")
            page.goto(screen.url)
            ready(page)
            paints.append(
                page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
            page.close()
    print(f"first paint: {sorted(round(ms) for ms in paints)} ms")
    assert min(paints) <= 1500


def test_an_update_of_all_tiles_keeps_the_main_thread_for_less_than_a_tenth_of_a_second(
    screen: Screen,
) -> None:
    with opened(screen) as (page, said):
        session = page.context.new_cdp_session(page)
        # Its own time, not the wall's: what else runs on the machine is no cost of the page.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy_s() -> float:
            found = session.send("Performance.getMetrics")["metrics"]
            return float(next(m["value"] for m in found if m["name"] == "TaskDuration"))

        drawing = []
        for _ in range(3):
            started = busy_s()
            page.evaluate(DRAWING)
            drawing.append(1000 * (busy_s() - started))
        slower = max(1.0, min(drawing) / DRAWING_MS)
        costs = []
        yesterday, today = screen.yesterday.isoformat(), page.input_value("#day")
        for day in (yesterday, today, yesterday, today):
            before, drawn = busy_s(), shown(page, "#totals .number")["reports"]
            page.fill("#day", day)
            page.wait_for_function(
                "n => Number(document.querySelector('#totals [data-column=reports] b')"
                ".dataset.value) !== n",
                arg=drawn,
            )
            page.wait_for_timeout(600)  # numbers tick for 300 ms
            costs.append(1000 * (busy_s() - before))
        print(
            f"update of all tiles: {[round(ms) for ms in costs]} ms of the main thread, "
            f"drawing {min(drawing):.0f} ms: a machine {slower:.2f} times as slow as the one the budget is for"
        )
        assert min(costs) <= 100 * slower
        assert said == []


def test_counters_are_at_most_five_seconds_behind_what_is_inserted(screen: Screen) -> None:
    with opened(screen) as (page, _):
        waits = []
        for number in range(5):
            before = shown(page, "#totals .number")["reports"]
            now = datetime.now(UTC)
            screen.insert(
                "report_outcomes",
                report_id=f"behind-{number}",
                channel="photo_app",
                outcome="accepted",
                received_at=now,
                decided_at=now,
            )
            inserted = time.monotonic()
            page.wait_for_function(
                "n => Number(document.querySelector('#totals [data-column=reports] b')"
                ".dataset.value) === n",
                arg=before + 1,
                timeout=30_000,
            )
            waits.append(time.monotonic() - inserted)
        print(f"insert → screen: {[round(s, 1) for s in waits]} s")
        assert float(np.median(waits)) <= 5.0


def test_the_heap_is_flat_over_a_day(screen: Screen) -> None:
    tiles = httpx.get(f"{screen.url}/tiles.json").json()
    names = [name for tile in tiles if tile["id"] != "drawer" for name in tile["queries"]]
    asked: dict[str, str | int] = {
        "by": "centre",
        "digits": 0,
        "parent": "",
        "names": ",".join(names),
    }
    recorded = {
        "tiles": httpx.get(f"{screen.url}/api/tiles", params=asked).json()["tiles"],
        **{
            path: httpx.get(f"{screen.url}{path}").json()
            for path in ("/api/city", "/api/queries", "/tiles.json", "/api/status")
        },
        "/api/map/areas": httpx.get(f"{screen.url}/api/map/areas").json(),
    }
    with chromium() as browser:
        width, height = SIZES["desk"]
        page = browser.new_page(viewport={"width": width, "height": height}, locale="zh-CN")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(f"({TIME_GOES_FASTER})({FASTER})")
        page.add_init_script(f"({ANSWERED_FROM_MEMORY})({json.dumps(recorded)})")
        page.goto(screen.url)
        session = page.context.new_cdp_session(page)
        heaps = []
        for _ in range(PARTS):
            page.wait_for_timeout(DAY_MS / FASTER / PARTS)
            session.send("HeapProfiler.collectGarbage")
            heaps.append(session.send("Runtime.getHeapUsage")["usedSize"])
        rounds = page.evaluate("rounds()")
        nodes = page.evaluate("document.querySelectorAll('*').length")
    print(
        f"heap by the hour: {[round(h / 1e6, 2) for h in heaps]} MB, {rounds} rounds, {nodes} nodes"
    )
    assert errors == []
    assert rounds > 1_000
    # From the second hour on: the first one fills caches. One reading may catch a round under way.
    assert np.median(heaps[-6:]) <= 1.10 * np.median(heaps[1:7])


def test_frames_while_panning_over_all_communities_and_twenty_thousand_points(
    screen: Screen,
) -> None:
    city = load_city(screen.settings.city)
    streets = [street.code for street in city.streets]
    areas = [area for street in streets for area in below(city, street)]
    rng = np.random.default_rng(SEED)
    where = rng.integers(0, len(areas), POINTS)
    now = round(datetime.now(UTC).timestamp() * 1000)
    points = [
        {
            "event_id": f"event-{i}",
            "title": "",
            "class_code": "0102",
            "opened_at": now - int(rng.integers(0, 3_600_000)),
            "lon": areas[k]["rings"][0][0][0] + float(rng.normal(0, 0.002)),
            "lat": areas[k]["rings"][0][0][1] + float(rng.normal(0, 0.002)),
        }
        for i, k in enumerate(where.tolist())
    ]

    def tiles(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        if "map_events" in body["tiles"]:
            body["tiles"]["map_events"]["rows"] = points
        route.fulfill(response=answer, json=body)

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1920, "height": 1080}, locale="zh-CN")
        page.add_init_script(f"({WATCH_FRAMES})()")
        page.route("**/api/tiles*", tiles)
        page.route(
            "**/api/map/areas*", lambda route: route.fulfill(json={"parent": "", "areas": areas})
        )
        page.goto(screen.url)
        ready(page)
        box = cast(dict[str, float], page.locator("#map canvas").bounding_box())
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.evaluate("frames_ms.length = 0")
        for step in range(120):
            page.mouse.move(x + 2 * step, y + step)
        page.mouse.up()
        frames = page.evaluate("frames_ms")
    p50, p95, most = (round(float(np.percentile(frames, q)), 1) for q in (50, 95, 100))
    print(
        f"panning {len(areas)} polygons and {POINTS} points: {len(frames)} frames, main thread"
        f" p50 {p50}, p95 {p95}, max {most} ms"
    )
    assert len(areas) >= 3_000
    assert len(frames) >= 30
    # A sixtieth of a second; the slowest ones may share the machine with something else.
    assert p50 <= 1000 / 60
    assert p95 <= 50
