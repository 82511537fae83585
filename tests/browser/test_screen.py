"""The screen in a real browser: it equals its queries, follows them, and survives its database."""

import hashlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image

from connectors.forms import keep
from deploy.monitor import FROM_KAFKA
from deploy.people import add_person
from deploy.silence import SILENT_GAPS
from schemas.channels import load_channels
from tests.browser.city_screen import Screen, opened, shown
from tests.browser.pictures import CHROMIUM, SIZES, chromium, ready
from tests.city_day import CHANNELS
from tests.conftest import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="no chromium: apt-get install chromium fonts-noto-cjk"
    ),
]


def test_every_tile_shows_what_its_query_says(screen: Screen) -> None:
    with opened(screen) as (page, said):
        totals = shown(page, "#totals .number")
        (row,) = screen.rows("today_totals")
        assert totals == {column: row[column] for column in ("reports", "events", "orders")}
        (row,) = screen.rows("open_orders")
        assert shown(page, "#lights .number") == {
            c: row[c] for c in ("open", "red", "overdue", "due_soon")
        }
        for selector, query, key, column in (
            ("#channels .row[data-key]", "by_channel", "channel", "reports"),
            ("#classes .row[data-key]", "by_class", "class_code", "events"),
            ("#map .row[data-key]", "map_areas", "code", "events"),
            ("#outcomes .chip", "outcome_totals", "outcome", "reports"),
            ("#rules .chip", "light_totals", "rule", "lights"),
        ):
            found = {k: n for k, n in shown(page, selector).items() if n}
            assert found == {r[key]: r[column] for r in screen.rows(query) if r[column]}, query
        found = page.eval_on_selector_all(
            "#scenes .scene",
            "nodes => nodes.map(n => [n.dataset.key, ...[...n.querySelectorAll('b')]"
            ".map(b => Number(b.dataset.value))])",
        )
        assert found == [[r["scene"], r["open"], r["last_hour"]] for r in screen.rows("sensing")]
        (row,) = screen.rows("quality")
        for column in ("on_time", "due", "satisfied", "rated", "closed"):
            n = page.get_attribute(f"#quality [data-column={column}] b", "data-value")
            assert int(n) == row[column]
        scores = page.eval_on_selector_all(
            "#ranking .row[data-key]",
            "nodes => nodes.map(n => [n.dataset.key, n.querySelector('.n').textContent])",
        )
        assert scores == [
            [r["code"], "—" if r["score"] is None else f"{r['score']:.1f}"]
            for r in screen.rows("ranking", by="centre")
        ]
        latest = page.eval_on_selector_all(
            "#latest .row[data-key]", "nodes => nodes.map(n => n.dataset.key)"
        )
        assert latest == [r["event_id"] for r in screen.rows("latest_events")]
        assert said == []


def test_a_number_opens_as_many_rows_and_an_event_its_reports(screen: Screen) -> None:
    with opened(screen) as (page, said):
        page.click("#totals [data-column=orders]")
        page.wait_for_selector("#drawer td")
        (row,) = screen.rows("today_totals")
        assert page.locator("#drawer tr").count() - 1 == min(200, row["orders"])
        assert f"共 {row['orders']:,} 条" in page.inner_text("#drawer-note")
        page.click("#drawer .link >> nth=0")
        page.wait_for_selector("#drawer h3")
        page.keyboard.press("Escape")
        assert page.is_hidden("#drawer")
        assert said == []


#: Each number of the page that opens rows.
OPENERS = (
    "#totals .number, #totals .ratio, #outcomes .chip, #lights .number, #rules .chip, #quality [data-column],"
    " #scenes .number, #map .row[data-key], #channels .row[data-key], #classes .row[data-key]"
)


def test_each_number_opens_rows_that_are_as_many(screen: Screen) -> None:
    with opened(screen, "desk") as (page, said):
        page.wait_for_selector("#scenes .scene")
        opened_rows = 0
        for n in range(page.locator(OPENERS).count()):
            number = page.locator(OPENERS).nth(n)
            value = number.locator("[data-value]")
            if not value.count():
                continue  # the ratio: its rows are those of its numerator
            expected = int(value.first.get_attribute("data-value") or 0)
            if not expected:
                continue
            number.dispatch_event("click")
            page.wait_for_selector("#drawer td")
            assert f"共 {expected:,} 条" in page.inner_text("#drawer-note"), number.inner_text()
            page.keyboard.press("Escape")
            opened_rows += 1
        assert opened_rows > 30
        assert said == []


def test_the_map_goes_from_the_city_to_a_micro_grid_and_back_and_its_areas_add_up(
    screen: Screen,
) -> None:
    with opened(screen, "desk") as (page, said):

        def areas() -> dict[str, int]:
            return shown(page, "#map .row[data-key]")

        eventually(
            lambda: sum(areas().values()) == sum(r["events"] for r in screen.rows("map_areas"))
        )
        place, deeper = "", 0
        while page.locator("#map .deeper").count():
            chosen = page.locator("#map .pair").first
            code = chosen.locator(".row").get_attribute("data-key")
            number = int(chosen.locator("[data-value]").get_attribute("data-value") or 0)
            chosen.locator(".deeper").click()
            deeper += 1
            page.wait_for_selector(f"#crumbs button:nth-child({deeper + 1})")
            page.wait_for_function(
                "total => [...document.querySelectorAll('#map .row [data-value]')]"
                ".reduce((sum, n) => sum + Number(n.dataset.value), 0) === total",
                arg=number,
            )
            page.wait_for_function(
                "before => [...document.querySelectorAll('#map .row[data-key]')]"
                ".every(n => n.dataset.key !== before)",
                arg=code,
            )
            place = code or ""
        assert deeper == 4  # a centre, a street, a community, a compound: its micro-grids are shown
        assert len(place) == 15
        page.click("#crumbs button >> nth=0")
        eventually(lambda: page.locator("#crumbs button").count() == 1)
        eventually(
            lambda: sum(areas().values()) == sum(r["events"] for r in screen.rows("map_areas"))
        )
        assert said == []


def test_a_new_report_is_on_the_screen_without_a_reload_as_text_only(screen: Screen) -> None:
    with opened(screen) as (page, said):
        page.evaluate("window.stayed = true")
        before = shown(page, "#totals .number")["reports"]
        now = datetime.now(UTC)
        screen.insert(
            "report_outcomes",
            report_id="late",
            channel="photo_app",
            outcome="accepted",
            received_at=now,
            decided_at=now,
        )
        screen.insert(
            "events",
            event_id="event-late",
            version=1,
            status="open",
            title="<img src=x onerror=alert(1)>",
            class_code="0102",
            district_code="410105",
            opened_at=now + timedelta(seconds=1),
            updated_at=now,
            report_count=1,
        )
        eventually(lambda: shown(page, "#totals .number")["reports"] == before + 1)
        page.wait_for_selector("#latest [data-key=event-late]", timeout=15_000)
        assert "<img src=x" in page.inner_text("#latest [data-key=event-late]")
        assert page.locator("#latest img").count() == 0
        assert page.evaluate("window.stayed")
        assert said == []


def test_while_the_database_is_down_the_last_picture_stays_dated_and_then_heals(
    screen: Screen,
) -> None:
    with opened(screen) as (page, _):
        page.evaluate("window.stayed = true")
        before = shown(page, "#totals .number")
        screen.stack.stop()
        page.wait_for_selector("#banner.warn:not([hidden])", timeout=30_000)
        page.wait_for_selector("#totals.stale", timeout=30_000)
        assert "数据库暂不可用" in page.inner_text("#banner")
        assert "截至" in page.inner_text("#totals .state")
        assert shown(page, "#totals .number") == before
        screen.stack.start_clickhouse()
        page.wait_for_selector("#banner", state="hidden", timeout=60_000)
        eventually(lambda: page.locator(".block.stale").count() == 0, 60)
        assert page.evaluate("window.stayed")


def test_yesterday_is_another_picture_and_back_again(screen: Screen) -> None:
    with opened(screen) as (page, said):
        today = shown(page, "#totals .number")
        yesterday = screen.yesterday.isoformat()
        (row,) = screen.rows("today_totals", day=yesterday)
        page.fill("#day", yesterday)
        eventually(lambda: shown(page, "#totals .number")["reports"] == row["reports"])
        assert yesterday in page.inner_text("#banner")
        until = datetime.fromisoformat(f"{yesterday}T20:30:00").replace(tzinfo=screen.zone)
        (row,) = screen.rows("today_totals", day=yesterday, until=round(until.timestamp() * 1000))
        page.fill("#minute", "20:30")
        eventually(
            lambda: (
                shown(page, "#totals .number")
                == {c: row[c] for c in ("reports", "events", "orders")}
            )
        )
        assert "20:30 之前" in page.inner_text("#banner")
        page.fill("#minute", "")
        page.fill("#day", "")
        eventually(lambda: shown(page, "#totals .number")["reports"] == today["reports"])
        assert said == []


def test_another_time_is_said_at_once_however_long_its_numbers_take(screen: Screen) -> None:
    with opened(screen) as (page, said):
        yesterday = screen.yesterday.isoformat()
        page.route("**/api/tiles*", lambda route: None)  # never answered
        page.fill("#day", yesterday)
        assert yesterday in page.inner_text("#banner")
        assert page.locator(".block:visible").count() == page.locator(".waiting:visible").count()
        page.unroute_all(behavior="ignoreErrors")
        page.fill("#day", "")
        eventually(lambda: page.locator(".waiting:visible").count() == 0)
        assert said == []


def test_a_banner_takes_no_channel_and_no_centre_from_a_wall(screen: Screen) -> None:
    with opened(screen) as (page, said):
        page.wait_for_selector("#ranking .row")
        yesterday = screen.yesterday.isoformat()
        page.fill("#day", yesterday)
        page.wait_for_selector("#banner:not([hidden])")
        for block in ("channels", "ranking"):
            rows = page.evaluate(
                "id => { const list = document.querySelector(`#${id} .list`);"
                " return [list.scrollHeight - list.clientHeight, list.style.clipPath]; }",
                block,
            )
            assert rows[0] <= 1, block
            assert rows[1] == "", block
        assert said == []


def lamps(page: Any) -> dict[str, str]:
    """State of each lamp; the tile must say the same."""
    read = "nodes => Object.fromEntries(nodes.map(n => [n.dataset.key, n.className]))"
    header = cast(dict[str, str], page.eval_on_selector_all("#lamps li", read))
    read = read.replace("n.className", "n.querySelector('.word').classList[1]")
    tile = page.eval_on_selector_all("#channels .row[data-key]", read)
    return header if tile == header else {}


def test_a_channel_that_stops_has_its_lamp_turned_and_no_other(screen: Screen) -> None:
    usual = {n: load_channels()[n].usual_gap_s or 3600.0 for n in CHANNELS}
    with opened(screen) as (page, said):
        page.evaluate("window.stayed = true")
        alive = dict.fromkeys(CHANNELS, "alive")
        eventually(lambda: lamps(page) == alive)
        # Just before three usual gaps, and just behind.
        ages = dict.fromkeys(CHANNELS, 1.0)
        stopped = "photo_app"
        screen.judge(ages | {stopped: SILENT_GAPS * usual[stopped] - 20})
        eventually(lambda: lamps(page) == alive)
        screen.judge(ages | {stopped: SILENT_GAPS * usual[stopped] + 1})
        eventually(lambda: lamps(page) == alive | {stopped: "silent"})
        assert "静默 6 分钟" in page.inner_text(f"#lamps [data-key={stopped}]")
        assert "■ 静默" in page.inner_text(f"#channels [data-key={stopped}]")
        page.click(f"#lamps [data-key={stopped}] button")
        page.wait_for_selector("#drawer h3")
        assert "惯常间隔 2 分钟（配置给定）" in page.inner_text("#drawer-note")
        page.keyboard.press("Escape")
        screen.judge(ages)
        eventually(lambda: lamps(page) == alive)
        assert page.evaluate("window.stayed")
        assert said == []


def test_a_channel_never_heard_is_not_in_service_and_nobody_guesses_without_the_monitor(
    screen: Screen,
) -> None:
    with opened(screen) as (page, said):
        try:
            for gauge in FROM_KAFKA:
                gauge.clear()
            screen.judge(dict.fromkeys(CHANNELS[1:], 1.0))
            eventually(lambda: lamps(page).get(CHANNELS[0]) == "unused")
            assert "未接入" in page.inner_text(f"#lamps [data-key={CHANNELS[0]}]")
            assert {lamps(page)[name] for name in CHANNELS[1:]} == {"alive"}
            for gauge in FROM_KAFKA:
                gauge.clear()
            eventually(lambda: lamps(page) == dict.fromkeys(CHANNELS, "unknown"))
        finally:
            screen.judge(dict.fromkeys(CHANNELS, 5.0))
        assert said == []


def test_lamps_stay_lit_while_the_database_is_down(screen: Screen) -> None:
    with opened(screen) as (page, _):
        screen.stack.stop()
        try:
            page.wait_for_selector("#banner.warn:not([hidden])", timeout=30_000)
            screen.judge(dict.fromkeys(CHANNELS, 1.0) | {"iot": 86400.0})
            alive = dict.fromkeys(CHANNELS, "alive")
            eventually(lambda: lamps(page) == alive | {"iot": "silent"})
        finally:
            screen.stack.start_clickhouse()
            screen.judge(dict.fromkeys(CHANNELS, 5.0))
        page.wait_for_selector("#banner", state="hidden", timeout=60_000)


@pytest.mark.parametrize("size", list(SIZES))
def test_nothing_runs_off_the_side_or_is_too_small_to_read_or_touch(
    screen: Screen, size: str
) -> None:
    with opened(screen, size) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('main *, header *')]"
            ".filter(n => n.firstChild?.nodeType === 3 && n.firstChild.data.trim())"
            ".filter(n => n.offsetParent)"
            ".map(n => parseFloat(getComputedStyle(n).fontSize)))"
        )
        assert smallest >= 12
        if size == "phone":
            lowest = page.evaluate(
                "Math.min(...[...document.querySelectorAll('main button')]"
                ".filter(n => n.offsetParent).map(n => n.offsetHeight))"
            )
            assert lowest >= 44


def test_scripts_weigh_at_most_400_kb_on_the_wire(screen: Screen) -> None:
    with opened(screen) as (page, _):
        weight = page.evaluate(
            "performance.getEntriesByType('resource').filter(r => r.name.endsWith('js'))"
            ".reduce((sum, r) => sum + r.encodedBodySize, 0)"
        )
        assert weight <= 400_000


def test_pictures_can_be_taken(screen: Screen, tmp_path: Path) -> None:
    from tests.browser.pictures import shoot

    assert [path.stat().st_size > 20_000 for path in shoot(screen.url, tmp_path)] == [True] * len(
        SIZES
    )


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", list(SIZES))
def test_axe_finds_nothing_serious(screen: Screen, size: str, theme: str) -> None:
    with opened(screen, size) as (page, said):
        if theme == "light":
            page.click("#theme")
        page.wait_for_selector("#rules .chip")
        shut = found_by_axe(page)
        page.click("#totals [data-column=events]")
        page.wait_for_selector("#drawer .link")
        page.click("#drawer .link >> nth=0")
        page.wait_for_selector("#drawer .facts")
        assert shut + found_by_axe(page) == []
        assert said == []


#: What a browser tells a page whose tab is put behind another, or comes back.
HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def found_by_axe(page: Any) -> list[str]:
    """What axe-core calls serious or critical, with the places."""
    report = Axe().run(page, options={"resultTypes": ["violations"]}).response
    return [
        f"{v['id']}: {node['target']} {node.get('failureSummary', '')}"
        for v in report["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
    ]


def test_the_keyboard_reaches_everything_that_a_pointer_does(screen: Screen) -> None:
    with opened(screen, "laptop") as (page, said):
        page.wait_for_selector("#rules .chip")
        # Nothing else shall come and go while one walks.
        page.route("**/api/**", lambda route: route.abort())
        page.evaluate(
            "() => { window.reached = new Set(); document.addEventListener('focusin',"
            " event => window.reached.add(event.target)); document.body.focus(); }"
        )
        for _ in range(400):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
        missed = page.evaluate(
            "() => [...document.querySelectorAll('button, input')].filter(n => n.offsetParent"
            " && n.tabIndex >= 0 && !window.reached.has(n)).map(n => n.outerHTML.slice(0, 80))"
        )
        assert missed == []
        page.focus("#tabs [aria-selected=true]")
        page.keyboard.press("ArrowRight")
        assert page.is_visible("#quality")
        assert page.is_hidden("#lights")
        assert [text for text in said if "net::" not in text and "Failed to load" not in text] == []


def test_a_number_that_falls_says_so(screen: Screen) -> None:
    with opened(screen) as (page, said):
        now = datetime.now(UTC)
        link: dict[str, Any] = {
            "link_id": "undone", "report_id": "undone", "event_id": "event-undone", "relation": "opened",
            "received_at": now, "sign": 1,
        }  # fmt: skip
        before = shown(page, "#totals .number")["events"]
        screen.insert("event_links", **link)
        eventually(lambda: shown(page, "#totals .number")["events"] == before + 1)
        assert "▼" not in page.inner_text("#totals h2")
        screen.insert("event_links", **link | {"sign": -1})
        eventually(lambda: shown(page, "#totals .number")["events"] == before)
        note = f"事件 {before + 1:,} → {before:,}"
        assert note in page.inner_text("#totals h2")
        assert said == []


def test_a_score_of_the_day_says_which_of_the_citys_kpis_it_is_without(screen: Screen) -> None:
    with opened(screen) as (page, said):
        assert page.inner_text("#ranking .without") == ""

        def other_card(route: Any) -> None:
            city = route.fetch()
            route.fulfill(response=city, json=city.json() | {"score_without": ["archive_rate"]})

        page.route("**/api/city", other_card)
        page.reload()
        page.wait_for_selector("#ranking .without span")
        assert page.inner_text("#ranking .without") == "不含结案率"
        page.fill("#day", screen.yesterday.isoformat())
        eventually(lambda: "当日综合得分" in page.inner_text("#ranking h2"))
        page.fill("#day", "")
        page.click("#language")
        page.wait_for_function("() => document.documentElement.lang === 'en'")
        page.wait_for_selector("#ranking .without span")
        assert page.inner_text("#ranking .without") == "withoutClosed"
        assert said == []


def test_an_event_says_why_and_is_found_on_the_map(screen: Screen) -> None:
    with opened(screen) as (page, said):
        page.click("#totals [data-column=events]")
        page.wait_for_selector("#drawer .link")
        page.click("#drawer .link >> nth=0")
        page.wait_for_selector("#drawer .facts")
        text = page.inner_text("#drawer")
        for word in ("类别", "网格", "发生 / 受理", "承办", "办结时限", "首报立案", "已派遣"):
            assert word in text
        page.click("text=在地图上看")
        assert page.is_hidden("#drawer")
        eventually(lambda: page.locator("#crumbs button").count() >= 3)
        assert said == []


def test_photos_are_shown_to_who_has_a_key_and_from_nowhere_else(screen: Screen) -> None:
    picture = BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(picture, "PNG")
    kept, broken = picture.getvalue(), b"\x89PNG\r\n\x1a\nno more"
    digests = [hashlib.sha256(data).hexdigest() for data in (kept, broken, b"elsewhere")]
    keep(screen.settings.home, dict(zip(digests, (kept, broken), strict=False)))
    key = add_person(screen.settings.people_path, "desk-1", "centre")
    now = datetime.now(UTC)
    event = {
        "event_id": "event-photos", "version": 1, "status": "open", "title": "照片", "class_code": "0102",
        "district_code": "410105", "opened_at": now, "updated_at": now, "report_count": 1,
    }  # fmt: skip
    screen.insert("events", **event)
    screen.insert(
        "event_links",
        **{
            "link_id": "photos", "report_id": "photos", "event_id": "event-photos", "relation": "opened",
            "channel": "photo_app", "received_at": now, "sign": 1,
        },
    )  # fmt: skip
    elsewhere = "https://photos.example/one.jpg"
    screen.insert(
        "reports",
        report_id="photos",
        channel="photo_app",
        received_at=now,
        occurred_at=now,
        media=[*(f"sha256:{digest} {elsewhere}" for digest in digests), elsewhere],
    )
    with opened(screen) as (page, said):
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.wait_for_selector("#latest [data-key=event-photos]", timeout=15_000)
        page.click("#latest [data-key=event-photos]")
        page.wait_for_selector("#drawer .photos")
        before = [*(digest[:12] for digest in digests), "外链"]
        assert page.locator("#drawer .photo").all_inner_texts() == before
        page.fill("#drawer [name=key]", "wrong")
        page.click("text=查看照片")
        page.wait_for_selector("text=密钥不对")
        assert page.locator("#drawer canvas").count() == 0
        page.fill("#drawer [name=key]", key)
        page.click("text=查看照片")
        page.wait_for_selector("#drawer canvas")
        eventually(
            lambda: (
                page.locator("#drawer .photo").all_inner_texts()
                == ["", "无法显示", "未存于此", "外链"]
            )
        )
        assert page.eval_on_selector(
            "#drawer canvas", "canvas => [...canvas.getContext('2d').getImageData(9, 9, 1, 1).data]"
        ) == [200, 30, 30, 255]
        assert page.is_hidden("#drawer form")
        assert len(hosts) == 1
        # The browser itself says so of each answer that is no photo.
        assert [text for text in said if "401" not in text and "404" not in text] == []


def test_each_channel_has_a_sign_of_its_own(screen: Screen) -> None:
    with opened(screen) as (page, said):
        signs = page.eval_on_selector_all(
            "#channels .row[data-key]",
            "rows => rows.map(row => row.querySelector('.sign path').getAttribute('d'))",
        )
        assert len(signs) == len(set(signs)) == len(CHANNELS)
        assert said == []


#: Notes when the page asks for what, and answers nothing while it is `down`.
NOTE_REQUESTS = """
window.asked = [];
const own = window.fetch;
window.fetch = (url, options) => {
  asked.push([String(url), Date.now()]);
  return window.down ? Promise.reject(new TypeError("down")) : own(url, options);
};
"""


def test_polling_backs_off_stops_while_hidden_and_goes_on_at_once(screen: Screen) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1920, "height": 1080}, locale="zh-CN")
        page.clock.install()
        page.add_init_script(NOTE_REQUESTS)
        page.goto(screen.url)
        ready(page)
        page.evaluate("() => { down = true; asked.length = 0; }")
        for _ in range(60):
            page.clock.run_for(1_000)
        asked = page.evaluate(
            "asked.filter(([url]) => url.includes('data_as_of')).map(([, at]) => at)"
        )
        gaps = np.diff(asked)
        # 2, 4, 8, 15, 15 s; what is one round may have begun before.
        assert 4 <= len(asked) <= 8
        assert gaps[2] > 1.5 * gaps[1] > 2 * gaps[0]
        assert page.is_visible("#banner.warn")
        page.evaluate(HIDE, True)
        page.evaluate("() => { down = false; asked.length = 0; }")
        page.clock.run_for(120_000)
        assert page.evaluate("asked") == []
        page.evaluate(HIDE, False)
        page.wait_for_selector("#banner", state="hidden")
        assert page.evaluate("asked.length") > 0


def test_a_day_is_replayed_a_minute_each_second_and_stops_when_asked(screen: Screen) -> None:
    with opened(screen) as (page, said):
        yesterday = screen.yesterday.isoformat()
        page.fill("#day", yesterday)
        page.fill("#minute", "08:00")
        page.dispatch_event("#minute", "change")
        page.click("#replay")
        page.wait_for_function("() => document.querySelector('#minute').value >= '08:03'")
        page.click("#replay")
        stood = page.input_value("#minute")
        until = datetime.fromisoformat(f"{yesterday}T{stood}:00").replace(tzinfo=screen.zone)
        (told,) = screen.rows("today_totals", day=yesterday, until=round(until.timestamp() * 1000))
        eventually(lambda: shown(page, "#totals .number")["reports"] == told["reports"])
        assert page.get_attribute("#replay", "aria-pressed") == "false"
        assert page.input_value("#minute") == stood
        assert said == []


def test_the_screen_is_saved_as_a_picture_of_itself(screen: Screen, tmp_path: Path) -> None:
    with opened(screen) as (page, said):
        with page.expect_download() as saving:
            page.click("#save")
        saved = tmp_path / "saved.png"
        saving.value.save_as(saved)
        picture = Image.open(saved)
        assert picture.size == SIZES["desk"]
        # The same colours where the browser itself shows them: ground, panel, map.
        page.screenshot(path=tmp_path / "seen.png")
        small = [
            np.asarray(Image.open(path).convert("L").resize((48, 27)), dtype=float)
            for path in (saved, tmp_path / "seen.png")
        ]
        assert float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1]) > 0.9
        assert said == []


def test_in_english_the_screen_has_no_chinese_word_of_its_own_and_stays_so(screen: Screen) -> None:
    with opened(screen) as (page, said):
        page.click("#language")
        page.wait_for_function("() => document.documentElement.lang === 'en'")
        ready(page)
        own = page.eval_on_selector_all(
            "h2, h2 small, dt, .number span, .fact, .day, .tabs button, .row.head span, .ratio span,"
            " .chip.accepted span, .lamps small, .choice button, .empty, .banner, .top h1 small",
            "nodes => nodes.map(n => n.firstChild?.data ?? '').filter(t => /[一-鿿]/.test(t))",
        )
        assert own == []
        page.click("#totals [data-column=events]")
        page.wait_for_selector("#drawer th")
        heads = page.eval_on_selector_all("#drawer th", "nodes => nodes.map(n => n.textContent)")
        assert [head for head in heads if any(sign >= "\u4e00" for sign in head)] == []
        page.click("#drawer-close")
        page.click("#language")
        page.wait_for_function("() => document.documentElement.lang === 'zh-CN'")
        assert said == []
