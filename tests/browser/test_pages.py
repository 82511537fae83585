"""A unit's page and a citizen's page in a browser, on a whole stack: from the report to the rated order."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import ViewportSize

from tests.browser.pictures import CHROMIUM, chromium
from tests.faults.harness import Stack, free_base_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="no chromium: apt-get install chromium fonts-noto-cjk"
    ),
]
#: The smallest PNG there is.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d4944415478da63fcffff3f0300050001ff5ae4c6f40000000049454e44ae426082"
)
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("pages")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


def test_a_unit_finishes_on_a_phone_what_a_citizen_follows_and_has_done_again(
    city: Stack, tmp_path: Path
) -> None:
    keys = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))
    answer = httpx.post(
        f"{city.url}/channels/photo_app/reports",
        json={"id": "U-1", "title": "井盖缺失", "district": "金水区", "description": "路口"},
        headers={"X-API-Key": keys["photo_app"]},
    ).json()
    (report,), (secret,) = answer["reports"], answer["secrets"]
    assert city.json("audit", "--timeout", "120", timeout=300)["clean"]
    (order,) = city.json("order", "list")["rows"]
    unit = city.json("people", "add", "u-1", "--role", "unit", "--unit", order["unit_code"])["key"]
    centre = city.json("people", "add", "c-1", "--role", "centre")["key"]

    def act(action: str, **said: Any) -> httpx.Response:
        return httpx.post(
            f"{city.url}/orders/{order['order_id']}/actions",
            json={"action": action, **said},
            headers={"X-API-Key": centre},
            timeout=60,
        )

    said: list[str] = []
    with chromium() as browser:
        page = browser.new_page(viewport=PHONE, locale="zh-CN")
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{city.url}/unit/")
        page.fill("[name=key]", "wrong")
        page.click("text=进入")
        page.wait_for_selector("text=密钥不对")
        page.fill("[name=key]", unit)
        page.click("text=进入")
        page.wait_for_selector("article h2:has-text('已派遣')")
        assert page.locator("article").count() == 1
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], "nothing is cut off or scrolls sideways"
        page.click("article button:has-text('接单')")
        page.wait_for_selector("article h2:has-text('已签收')")
        page.click("article button:has-text('办结')")
        photo = tmp_path / "after.png"
        photo.write_bytes(PIXEL)
        page.set_input_files("[name=photos]", str(photo))
        page.fill("[name=note]", "井盖已更换")
        page.screenshot(path=str(tmp_path / "unit.png"))
        page.click("text=提交办结")
        page.wait_for_selector("article h2:has-text('已处置')")
        for action in ("check_pass", "close"):
            done = act(action)
            assert done.status_code == 200, done.text

        follow = browser.new_page(viewport=PHONE, locale="zh-CN")
        follow.on("pageerror", lambda error: said.append(str(error)))
        follow.goto(f"{city.url}/follow/#report={report}&secret=xxxxxxxxxxxxxxxx")
        follow.wait_for_selector("text=没有这个报件号与查询码")
        follow.fill("[name=secret]", secret)
        follow.click("text=查询进度")
        follow.wait_for_selector("li:has-text('已结案')")
        assert follow.locator("li:has-text('井盖已更换')").count() == 1
        follow.click("text=不满意")
        follow.wait_for_selector("li:has-text('重新办理')")
        follow.screenshot(path=str(tmp_path / "follow.png"))
    assert said == []
    steps = city.json("order", "show", order["order_id"])["steps"]
    assert [step["to_state"] for step in steps] == [
        "DISPATCHED", "SIGNED", "HANDLED", "CHECKED", "CLOSED", "CLOSED", "REOPENED",
    ]  # fmt: skip
    (media,) = next(step["media"] for step in steps if step["action"] == "handle")
    kept = httpx.get(
        f"{city.url}/orders/media/{media.removeprefix('sha256:')}", headers={"X-API-Key": centre}
    )
    assert (kept.status_code, kept.content) == (200, PIXEL)
    other = city.json("people", "add", "u-2", "--role", "unit", "--unit", "990105-CG")["key"]
    hidden = httpx.get(f"{city.url}/orders/{order['order_id']}", headers={"X-API-Key": other})
    assert hidden.status_code == 404
    assert city.json("audit", "--timeout", "120", timeout=300)["clean"]
