"""A part says whether it turns and whether it has started, and where parts on other machines are found."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas import probes
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings
from tests.conftest import eventually, free_base_port


@contextlib.contextmanager
def served(stuck: probes.Probe, starting: probes.Probe) -> Iterator[str]:
    """A part's port."""
    settings = Settings(port=free_base_port())
    close = probes.serve(settings, "sink", stuck=stuck, starting=starting)
    try:
        yield f"http://127.0.0.1:{settings.metrics_port('sink')}"
    finally:
        close()


def asked(url: str) -> dict[str, tuple[int, str]]:
    answers = {path: httpx.get(f"{url}/{path}", trust_env=False) for path in ("healthz", "readyz")}
    return {path: (answer.status_code, answer.text.strip()) for path, answer in answers.items()}


def test_a_part_that_starts_is_alive_but_not_ready_and_says_why() -> None:
    waiting = ["reads state"]
    with served(lambda: "", lambda: "".join(waiting)) as url:
        assert asked(url) == {"healthz": (200, "ok"), "readyz": (503, "reads state")}
        waiting.clear()
        assert asked(url) == {"healthz": (200, "ok"), "readyz": (200, "ok")}


def test_a_loop_that_turns_no_more_is_stuck_and_not_ready() -> None:
    pulse = probes.Pulse(0.2)
    with served(pulse.stuck, lambda: "") as url:
        pulse.beat()
        eventually(lambda: asked(url)["healthz"][0] == 503)
        code, why = asked(url)["readyz"]
        assert (code, why.startswith("has not turned for ")) == (503, True)
        pulse.beat()
        assert pulse.stuck() == ""


def test_the_metrics_are_on_the_same_port() -> None:
    with served(lambda: "", lambda: "") as url:
        assert "quanyu_sink_rows_total" in httpx.get(f"{url}/metrics", trust_env=False).text


def test_a_slow_reader_does_not_keep_a_probe_waiting() -> None:
    with served(lambda: "", lambda: "") as url, httpx.Client(trust_env=False) as held:
        held.send(held.build_request("GET", f"{url}/metrics"), stream=True)
        begun = time.monotonic()
        assert asked(url)["healthz"] == (200, "ok")
        assert time.monotonic() - begun < 5


def test_parts_on_other_machines_are_where_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    monkeypatch.setenv(
        "QUANYU_PARTS",
        '{"screen": ["https://gateway/"], "connectors": ["http://a:1", "http://b:2"]}',
    )
    settings = load_settings()
    assert settings.screen_url == "https://gateway"
    assert settings.part_urls("connectors") == ["http://a:1", "http://b:2"]
    assert settings.part_urls("sink") == [f"http://127.0.0.1:{settings.metrics_port('sink')}"]
    monkeypatch.setenv("QUANYU_PARTS", '{"skreen": ["http://a"]}')
    with pytest.raises(QuanyuError, match="QUANYU_PARTS"):
        load_settings()


def test_a_part_that_listens_everywhere_is_found_on_loopback() -> None:
    settings = Settings(bind="0.0.0.0")
    assert settings.part_urls("worker") == [f"http://127.0.0.1:{settings.metrics_port('worker')}"]
