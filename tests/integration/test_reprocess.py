"""A whole stack under another policy: compared with the old decisions, taken up while it runs, brought over."""

import csv
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.city import city_folder
from schemas.settings import load_settings
from schemas.tables import connect
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

#: Everything of a class within a kilometre and a half is one matter; almost nothing is.
LOOSE = "default: {radius_m: 1500, join: 0.05, review: 0.02}\n"
STRICT = "default: {join: 0.9, review: 0.8}\n"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack whose pack is a copy."""
    pack = tmp_path_factory.mktemp("pack") / "city"
    shutil.copytree(city_folder("zhengzhou"), pack)
    stack = Stack(tmp_path_factory.mktemp("again"), free_base_port(random.Random()))
    stack.env["QUANYU_CITY"] = str(pack)
    with stack.running():
        yield stack


def pack_of(city: Stack) -> Path:
    return Path(city.env["QUANYU_CITY"])


def audited(city: Stack) -> dict[str, int]:
    """Totals after an audit, which must be clean."""
    report = city.json("audit", "--timeout", "180", timeout=300)
    assert report["clean"], report
    return dict(report["totals"])


def again(city: Stack, *options: str) -> dict[str, Any]:
    """The last hour decided anew."""
    now = datetime.now(UTC)
    begin, end = (now + timedelta(minutes=m) for m in (-60, 1))
    return city.json("reprocess", "--from", begin.isoformat(), "--to", end.isoformat(), *options)


def status(city: Stack) -> dict[str, Any]:
    return dict(city.json("status")["pack"])


def in_service(city: Stack, policy: str) -> None:
    """Put a merge policy into the pack and wait until the worker goes by it."""
    former = status(city)["version"]
    (pack_of(city) / "merge.yaml").write_text(policy, encoding="utf-8")
    eventually(lambda: status(city)["version"] != former, 60, 1.0)
    assert status(city)["refused"] == ""


def brought_over(city: Stack, verb: str) -> int:
    """Bring events over to the policy in service; how many actions were done. The audit must stay clean."""
    before = audited(city)
    wanted = again(city)["actions"][verb]
    done = again(city, "--switch", "events", "--limit", "20")["switched"]
    applied = int(done.get(f"{verb} applied", 0))
    assert applied, done
    assert audited(city)["reports"] == before["reports"]
    # What was done is a person's word now: no longer compared, nor asked for.
    left = again(city)
    assert left["by_person"] >= applied
    assert left["actions"].get(verb, 0) <= wanted - applied
    return applied


def test_another_policy_is_compared_taken_up_and_brought_over_with_every_number_right(
    city: Stack, tmp_path: Path
) -> None:
    city.json("simulate", "--scenario", "storm", "--rate", "100", "--duration", "15", "--seed", "5")
    before = audited(city)

    # Nothing was changed: nothing is decided otherwise, but for what arrived at one instant.
    same = again(city)
    assert same["compared"] > 500
    assert same["changed"].get("outcome", 0) == same["changed"].get("class", 0) == 0
    assert sum(same["changed"].values()) <= 0.02 * same["compared"]

    policy, rows = tmp_path / "strict.yaml", tmp_path / "changed.csv"
    policy.write_text(STRICT, encoding="utf-8")
    strict = again(city, "--policy", str(policy), "--out", str(rows))
    assert strict["changed"]["merge"] > 0.2 * strict["compared"]
    assert strict["events_now"] > strict["events_then"]
    with rows.open(encoding="utf-8", newline="") as file:
        changed = list(csv.DictReader(file))
    assert len(changed) >= strict["changed"]["merge"]
    assert all(row["switch"] or row["why_not"] for row in changed)
    # Compared only: nothing moved, and what is not in service is not brought over.
    assert audited(city) == before
    now = datetime.now(UTC).isoformat()
    refused = city.run(
        "reprocess", "--from", "2026-01-01", "--to", now, "--policy", str(policy), "--switch", "all"
    )
    assert refused.returncode == 2
    assert "pack in service" in refused.stderr

    # A policy that cannot be read changes nothing; the right one is taken up by the same process.
    first, worker = status(city), city.parts()["worker"]["pid"]
    (pack_of(city) / "merge.yaml").write_text("default: {join: 7}\n", encoding="utf-8")
    eventually(lambda: "merge.yaml" in status(city)["refused"], 60, 1.0)
    assert status(city)["version"] == first["version"]
    in_service(city, LOOSE)
    assert city.parts()["worker"]["pid"] == worker

    # By the pack in service: whole events go into one, then others apart; each order follows.
    merged = brought_over(city, "merge")
    in_service(city, STRICT)
    split = brought_over(city, "split")
    settings = load_settings(home=city.home, port=city.port)
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        done: list[Any] = client.query(
            "SELECT action, count() FROM action_outcomes WHERE kind = 'event' AND outcome = 'applied' "
            "AND actor = 'reprocess:operator' GROUP BY action"
        ).result_rows  # type: ignore[assignment] # rows
    assert dict(done) == {"merge": merged, "split": split}


def test_reports_in_review_are_answered_once_by_a_word_that_the_pack_learnt(city: Stack) -> None:
    said = {"留言编号": "RP1", "留言主题": "旋转木马不转", "留言时间": "2026/3/1 8:00:00"}
    said |= {"区县": "金水区", "坐标系": "WGS84", "经度": "113.66123", "纬度": "34.78123"}
    path = city.home / "one.csv"
    path.write_text(f"{','.join(said)}\n{','.join(said.values())}\n", encoding="utf-8")
    city.json("replay", str(path), "--channel", "hotline12345")
    before = audited(city)
    first = status(city)["version"]
    taxonomy = pack_of(city) / "taxonomy.csv"
    lines = taxonomy.read_text("utf-8").splitlines()
    at = lines[0].split(",").index("keywords")
    cells = lines[1].split(",")
    cells[at] += "|旋转木马"
    taxonomy.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n", encoding="utf-8")
    eventually(lambda: status(city)["version"] != first, 60, 1.0)
    done = again(city, "--switch", "reviews")["switched"]
    assert done["answer applied"] >= 1, done
    after = audited(city)
    assert after["outcomes"] == before["outcomes"]
    assert after["reports"] == before["reports"] + done["answer applied"]
    assert "answer applied" not in again(city, "--switch", "reviews")["switched"]
    assert audited(city) == after
