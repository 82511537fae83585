"""A heartbeat comes through a real folder's and a real broker's connector, and no report comes of it."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors import __main__ as connectors
from connectors.publish import Publisher
from connectors.source import HEARTBEAT_FILE, Feed
from deploy.heartbeats import Heartbeats, drop, wanted
from deploy.local.parts import mqtt_answers
from deploy.positions import Positions
from schemas import topics
from schemas.channels import load_channel
from schemas.errors import QuanyuError
from schemas.metrics import COLLECTORS
from schemas.settings import Settings
from schemas.sources import embedded_sources
from schemas.topics import raw_topic
from tests.conftest import Stack, eventually

pytestmark = pytest.mark.integration


def home(settings: Settings, path: Path, sources: dict[str, dict[str, str]]) -> Settings:
    """A home of its own beside the run's broker."""
    (path / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
    return settings.model_copy(update={"home": path})


def beat(channel: str, step: str) -> float:
    """When the last one came."""
    labels = {"channel": channel, "step": step}
    return COLLECTORS.get_sample_value("quanyu_heartbeat_timestamp_seconds", labels) or 0.0


@contextlib.contextmanager
def feeding(settings: Settings, channel: str, transport: str, address: str) -> Iterator[None]:
    """The channel's connector runs; at the end nothing of what it read was published."""
    topics.apply(settings)
    with Positions(settings) as positions:
        partitions = positions.partitions([raw_topic(channel)])
        before = positions.ends(partitions)
        stop, publisher = threading.Event(), Publisher(settings)
        opener = connectors.opener(transport)
        feed = Feed(settings, load_channel(channel), transport, address, opener, publisher, stop)
        running = threading.Thread(target=feed.run)
        running.start()
        try:
            yield
        finally:
            stop.set()
            running.join()
            publisher.close()
        assert positions.ends(partitions) == before


def comes(beats: Heartbeats, channel: str, step: str) -> None:
    """One is sent, and comes."""
    former = beat(channel, step)
    beats.round()
    eventually(lambda: beat(channel, step) > former, 60)


def test_it_comes_through_the_drop_folder_and_leaves_nothing_behind(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "drop" / "mailbox"
    here = home(settings, tmp_path, {"mailbox": {"file": str(folder)}})
    beats = Heartbeats(here.model_copy(update={"heartbeats": ["mailbox.file"]}))
    with feeding(here, "mailbox", "file", str(folder)):
        eventually((folder / "done").exists)
        for _ in range(2):
            comes(beats, "mailbox", "file")
            eventually((folder / "done" / HEARTBEAT_FILE).exists)
        assert len(list((folder / "done").iterdir())) == 1, "the former one was taken away"


def test_it_comes_through_the_broker_of_the_devices(
    stack: Stack, settings: Settings, tmp_path: Path
) -> None:
    stack._launch("mqtt")
    eventually(lambda: mqtt_answers(settings.mqtt_port), 60)
    address = f"mqtt://127.0.0.1:{settings.mqtt_port}"
    here = home(settings, tmp_path, {"iot": {"mqtt": address}})
    beats = Heartbeats(here.model_copy(update={"heartbeats": ["iot.mqtt"]}))
    with feeding(here, "iot", "mqtt", address):
        up = {"channel": "iot", "transport": "mqtt"}
        eventually(lambda: COLLECTORS.get_sample_value("quanyu_connector_up", up), 60)
        for _ in range(2):
            comes(beats, "iot", "mqtt")


def test_one_that_nobody_reads_is_not_heaped_up(tmp_path: Path) -> None:
    for _ in range(3):
        drop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [HEARTBEAT_FILE]


def test_others_systems_are_written_to_only_when_they_are_named(
    settings: Settings, tmp_path: Path
) -> None:
    here = home(settings, tmp_path, {"iot": {"mqtt": "mqtts://broker.example:8883"}})
    assert wanted(here) == {}
    named = here.model_copy(update={"heartbeats": ["iot.mqtt"]})
    assert wanted(named) == {("iot", "mqtt"): "mqtts://broker.example:8883"}
    own = home(settings, tmp_path, {})
    own = home(own, tmp_path, embedded_sources(own))
    assert {("iot", "mqtt"), ("mailbox", "file")} <= wanted(own).keys()
    assert not {transport for _, transport in wanted(own)} - {"mqtt", "file"}


@pytest.mark.parametrize("name", ["iot.sql", "hotline12345.sql", "nobody.mqtt", "iot"])
def test_what_takes_no_heartbeat_is_named(settings: Settings, tmp_path: Path, name: str) -> None:
    here = home(settings, tmp_path, {"iot": {"mqtt": "mqtt://127.0.0.1:1"}})
    with pytest.raises(QuanyuError, match=r"iot\.mqtt"):
        wanted(here.model_copy(update={"heartbeats": [name]}))
