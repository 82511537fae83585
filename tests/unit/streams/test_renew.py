"""A changed pack is taken up once it is whole; one that cannot be decided by changes nothing."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.city import CityPack, load_city
from schemas.codec import Codec
from schemas.errors import QuanyuError
from schemas.metrics import COLLECTORS
from schemas.settings import Settings
from streams.renew import PACK_FILE, Renewal
from streams.worker import make_steps
from tests.unit.streams.batches import batch, raw_report, records, run
from tests.unit.tiny_city import write_city

AGENTS = ["intake", "merge", "dispatch"]


class Worker:
    """The pack of a worker, and what its intake makes of a report that names no class at first."""

    def __init__(self, folder: Path, codec: Codec) -> None:
        self.folder, self.codec = write_city(folder / "pack"), codec
        self.home = folder / "home"
        self.home.mkdir()
        settings = Settings(home=self.home, city=str(self.folder))
        city = load_city(settings.city)
        self.steps = make_steps(AGENTS, city, codec, b"secret")
        self.renewal = Renewal(settings, city, self.build)

    def build(self, city: CityPack) -> Callable[[], None]:
        made = make_steps(AGENTS, city, self.codec, b"secret")
        return lambda: self.steps.update(made)

    def write(self, name: str, old: str, new: str) -> None:
        """Change one of the pack's files."""
        path = self.folder / name
        content = path.read_bytes()
        assert old.encode() in content
        path.write_bytes(content.replace(old.encode(), new.encode()))

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            asyncio.run(self.renewal.look())

    def outcome(self) -> str:
        raw = self.codec.encode("RawReport", raw_report("R1", title="秋千坏了", text="秋千坏了"))
        outputs, _ = run(self.steps["intake"], [batch([raw])])
        (found,) = records(self.codec, outputs, "report.outcomes")
        return str(found["outcome"])

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.home / PACK_FILE).read_text(encoding="utf-8")))

    @property
    def measured(self) -> tuple[list[str], float | None]:
        """Versions that the metrics say are in service, and whether one was refused."""
        found = [s for m in COLLECTORS.collect() for s in m.samples if s.name == "quanyu_pack_info"]
        refused = COLLECTORS.get_sample_value("quanyu_pack_refused")
        return [s.labels["version"] for s in found if s.value == 1], refused


@pytest.fixture
def worker(tmp_path: Path, codec: Codec) -> Worker:
    return Worker(tmp_path, codec)


def test_a_new_word_of_the_taxonomy_is_in_service_after_two_looks(worker: Worker) -> None:
    before = worker.renewal.version
    assert worker.outcome() == "review"
    worker.write("taxonomy.csv", "井盖|井盖丢失", "井盖|井盖丢失|秋千")
    worker.look(1)  # perhaps it is still being written
    assert worker.outcome() == "review"
    worker.look(1)
    assert worker.outcome() == "accepted"
    assert worker.renewal.version != before
    assert worker.told["version"] == worker.renewal.version
    assert worker.told["refused"] == ""
    assert worker.measured == ([worker.renewal.version], 0)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("taxonomy.csv", "2uh", "soon", "taxonomy.csv:3"),
        ("city.yaml", "fallback:", "fallbak:", "city.yaml"),
        ("city.yaml", "code: JD", "code: J", "city.yaml"),
        ("city.yaml", "zones:", "classifier: {model: none.npz}\nzones:", "no such model"),
        ("streets.csv", "长堤街道", "长堤新街道", "stop all workers"),
        ("city.yaml", '"990102", "990103"]', '"990102"]', "stop all workers"),
    ],
)
def test_what_cannot_be_taken_up_is_refused_by_name_and_the_old_pack_stays_until_it_is_mended(
    worker: Worker, name: str, old: str, new: str, said: str
) -> None:
    former, steps = worker.renewal.version, dict(worker.steps)
    worker.write(name, old, new)
    worker.look(4)
    assert worker.steps == steps
    assert said in worker.told["refused"]
    assert worker.told["version"] == former
    assert worker.measured == ([former], 1)
    worker.write(name, new, old)
    worker.write("taxonomy.csv", "井盖|井盖丢失", "井盖|井盖丢失|秋千")
    worker.look()
    assert worker.outcome() == "accepted"
    assert worker.told["refused"] == ""
    assert worker.measured == ([worker.renewal.version], 0)


def test_a_merge_policy_is_taken_up_and_a_wrong_one_named(worker: Worker) -> None:
    policy = worker.folder / "merge.yaml"
    policy.write_text("default: {join: 2}\n", encoding="utf-8")
    worker.look()
    # A file that was not there is seen as well.
    assert "merge.yaml" in worker.told["refused"]
    former = worker.steps["merge"]
    policy.write_text("default: {join: 0.9, review: 0.8}\n", encoding="utf-8")
    worker.look()
    assert worker.steps["merge"] is not former
    assert worker.told["refused"] == ""


def test_files_written_again_as_they_were_change_nothing(worker: Worker) -> None:
    steps, version = dict(worker.steps), worker.renewal.version
    worker.write("taxonomy.csv", "井盖", "井盖")
    worker.look(3)
    assert worker.steps == steps
    assert worker.renewal.version == version


def test_a_home_that_cannot_be_written_to_stops_nothing(tmp_path: Path, codec: Codec) -> None:
    folder = write_city(tmp_path / "pack")
    settings = Settings(home=tmp_path / "not there", city=str(folder))
    renewal = Renewal(settings, load_city(str(folder)), lambda _: lambda: None)
    asyncio.run(renewal.look())


def test_a_worker_refuses_at_its_start_what_it_would_refuse_later(
    tmp_path: Path, codec: Codec
) -> None:
    folder = write_city(tmp_path / "pack")
    (folder / "merge.yaml").write_text("default: {join: 2}\n", encoding="utf-8")
    load_city.cache_clear()
    with pytest.raises(QuanyuError, match=r"merge\.yaml"):
        make_steps(AGENTS, load_city(str(folder)), codec, b"secret")
