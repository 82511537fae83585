"""Pictures of a running screen: ``python -m tests.browser.pictures URL FOLDER``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
SIZES = {"wall": (5760, 1080), "desk": (1920, 1080), "laptop": (1366, 768), "phone": (390, 844)}
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--lang=zh-CN"]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


def ready(page: Page, timeout_ms: float = 20_000) -> None:
    """Wait until the first numbers and the map are drawn."""
    page.wait_for_selector("#totals b[data-value]", timeout=timeout_ms)
    page.wait_for_selector("#map .row[data-key]", timeout=timeout_ms)
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.list .skeleton')].some(n => n.offsetParent)",
        timeout=timeout_ms,
    )


def shoot(url: str, folder: Path) -> list[Path]:
    """One picture per size."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with chromium() as browser:
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, locale="zh-CN")
            page.goto(url)
            ready(page)
            page.wait_for_timeout(700)  # numbers tick for 300 ms
            made.append(folder / f"{name}.png")
            page.screenshot(path=made[-1], full_page=name == "phone")
            page.close()
    return made


if __name__ == "__main__":
    for picture in shoot(sys.argv[1], Path(sys.argv[2])):
        print(picture)
