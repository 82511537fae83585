"""The simulated city's senders: what they count as sent was confirmed, and an outage loses nothing."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from connectors.http_push import router
from connectors.publish import Publisher
from connectors.simulate import simulate
from connectors.simulator import CHANNELS
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.conftest import Stack, free_base_port
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

#: Every so many requests, one is answered 503 although it was taken, and one before it is read.
LOST_ANSWER, LOST_REQUEST = 5, 7


@pytest.fixture
def place(broker: Stack, tmp_path: Path) -> Settings:
    """Settings of a gateway on a free port, with keys."""
    settings = broker.settings.model_copy(
        update={"home": tmp_path, "kafka": broker.settings.bootstrap, "port": free_base_port()}
    )
    settings.keys_path.write_text(json.dumps(dict.fromkeys(CHANNELS, "key")), encoding="utf-8")
    return settings


@pytest.fixture
def unreliable(broker: Stack, place: Settings) -> Iterator[None]:
    """A gateway whose answers are lost now and then."""
    publisher = Publisher(broker.settings)
    app = FastAPI()
    app.include_router(router(place, publisher))
    requests = 0

    @app.middleware("http")
    async def lossy(request: Request, call_next: Any) -> Response:
        nonlocal requests
        requests += 1
        if requests % LOST_REQUEST == 0:
            return Response(status_code=503)
        response: Response = await call_next(request)
        return Response(status_code=503) if requests % LOST_ANSWER == 0 else response

    server = uvicorn.Server(uvicorn.Config(app, port=place.screen_port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield
    server.should_exit = True
    thread.join(30)
    publisher.close()


@pytest.mark.usefixtures("unreliable")
def test_what_was_sent_is_on_the_broker_though_answers_were_lost(
    broker: Stack, place: Settings
) -> None:
    logs = {name: Log(broker.settings, name) for name in CHANNELS}
    result = simulate(place, seed=7, rate=100, duration=4)
    assert result.sent > 100
    assert result.repeated_requests > 0
    assert result.matters < result.sent - result.resent, "no matter was reported twice"
    for name, log in logs.items():
        ids = Counter(record["native_id"] for _, record in log.records())
        # A repetition has the same id, so it can be recognised.
        assert len(ids) <= result.by_channel[name] <= ids.total()
        log.close()
    assert sum(result.by_channel.values()) == result.sent


@pytest.mark.usefixtures("unreliable")
def test_a_wrong_key_ends_the_simulation_with_a_sentence(place: Settings) -> None:
    wrong = place.model_copy(update={"keys_file": place.home / "wrong.json"})
    wrong.keys_path.write_text(json.dumps(dict.fromkeys(CHANNELS, "wrong")), encoding="utf-8")
    with pytest.raises(QuanyuError, match="refused: 401"):
        simulate(wrong, seed=7, rate=50, duration=3)


def test_without_keys_the_sentence_says_how_to_get_them(place: Settings) -> None:
    place.keys_path.unlink()
    with pytest.raises(QuanyuError, match="quanyu up"):
        simulate(place, seed=7, rate=50, duration=3)
