"""What each pushing channel really sends becomes the right raw report, with nothing of it lost."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from connectors.forms import read_form
from connectors.mapping import RawReport, to_raw_report
from schemas.channels import load_channel
from schemas.codec import Codec

FIXTURES = Path(__file__).parents[2] / "fixtures" / "channels"
PUSHING = ("photo_app", "police110", "grid_patrol", "online_window", "video_ai")


def natives(channel: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (FIXTURES / f"{channel}.json").read_text(encoding="utf-8")
    )
    return found


def raws(channel: str) -> list[RawReport]:
    return [raw(channel, native) for native in natives(channel)]


def raw(channel: str, native: dict[str, Any]) -> RawReport:
    return to_raw_report(load_channel(channel), native, received_at=7, connector="unit")


def point(report: RawReport) -> tuple[Any, ...]:
    return report["lon"], report["lat"], report["crs"]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("channel", PUSHING)
def test_every_message_is_read_whole_and_fits_the_schema(channel: str, codec: Codec) -> None:
    for native, report in zip(natives(channel), raws(channel), strict=True):
        assert report["defects"] == []
        assert report["native_id"]
        assert report["title"] or report["text"]
        assert json.loads(report["payload"]) == native
        assert codec.decode(codec.encoder("RawReport")(report)) == ("RawReport", report)


def test_photo_app_the_cameras_own_point_and_time_win_over_the_map_pin() -> None:
    camera, pin = raws("photo_app")
    assert point(camera) == ("113.67684", "34.80031", "WGS84")
    assert camera["occurred_at"] == "2026-03-17T08:12:05+08:00"
    assert point(pin) == ("113.66521", "34.76107", "GCJ02")
    assert pin["occurred_at"] == "2026-03-17 08:20:00"
    assert (camera["submitted_at"], camera["reporter"]) == ("2026-03-17T08:15:30+08:00", "u8834120")


def test_photo_app_half_of_a_cameras_point_is_no_point() -> None:
    native = natives("photo_app")[0]
    del native["photos"][0]["exif"]["lat"]
    assert point(raw("photo_app", native)) == ("113.66012", "34.75218", "GCJ02")


def test_photo_app_photos_are_known_by_their_hashes() -> None:
    first, second = raws("photo_app")[0]["media"]
    assert first.split() == [
        f"sha256:{sha256('4417-1')}",
        "phash:c3f0e1d8a4b29687",
        "https://img.zhenghaopai.example/2026/03/17/4417-1.jpg",
    ]
    assert second.split()[0] == f"sha256:{sha256('4417-2')}"


def test_police110_gives_back_the_number_that_a_matter_had_at_12345() -> None:
    own, handed_back = raws("police110")
    assert own["forwarded_from"] is None
    assert handed_back["forwarded_from"] == "hotline12345/260317085911402718"
    assert (handed_back["native_id"], handed_back["revision"]) == ("4101002603170902480533", 1)
    assert point(handed_back) == ("113.70211", "34.77183", "CGCS2000")
    assert (own["occurred_at"], own["submitted_at"]) == (
        "2026-03-17 08:15:22",
        "2026-03-17 09:40:07",
    )


def test_hotline12345_gives_back_the_number_that_a_matter_had_at_110() -> None:
    alarm = natives("police110")[0]["alarm_no"]
    order = {
        "order_num": "260317094512118204",
        "main_content": "110转来：烧烤摊占道噪音大",
        "forwarded_from": f"police110/{alarm}",
    }
    channel, _, native_id = raw("hotline12345", order)["forwarded_from"].partition("/")
    # The very key under which the alarm came in.
    assert (channel, native_id) == ("police110", raws("police110")[0]["native_id"])


def test_grid_patrol_says_what_the_worker_settled_on_the_spot() -> None:
    settled, open_ = raws("grid_patrol")
    assert (settled["self_handled"], open_["self_handled"]) == ("True", "False")
    assert (settled["native_id"], settled["category"]) == ("4101052603170000123", "0102")
    assert point(settled) == ("113.68127", "34.78844", "WGS84")
    assert [medium.split()[0] for medium in settled["media"]] == [
        f"sha256:{sha256(f'123-{kind}')}" for kind in "nfr"
    ]


def test_grid_patrol_found_offline_keeps_both_times() -> None:
    settled = raws("grid_patrol")[0]
    assert settled["occurred_at"] == "2026-03-17T07:48:10+08:00"
    assert settled["submitted_at"] == "2026-03-17T09:02:44+08:00"


def test_online_window_comes_alike_as_json_and_as_a_form() -> None:
    native = natives("online_window")[0]
    boundary = "form"
    files = {"路灯.jpg": b"jpeg", "现场.mp4": b"video"}
    texts = {name: value for name, value in native.items() if name != "attachments"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in texts.items()
    ] + [
        f'--{boundary}\r\nContent-Disposition: form-data; name="attachments"; '
        f'filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    form = read_form(
        load_channel("online_window"),
        b"".join(parts) + f"--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )
    posted, pushed = raw("online_window", form.native), raws("online_window")[0]
    hashes = [hashlib.sha256(data).hexdigest() for data in files.values()]
    assert posted["media"] == [f"sha256:{digest}" for digest in hashes]
    assert form.files == dict(zip(hashes, files.values(), strict=True))
    assert form.native["attachments"][0] == {
        "sha256": hashes[0],
        "url": "",
        "name": "路灯.jpg",
        "size": 4,
    }
    alike = {name for name in pushed if name not in ("media", "payload")}
    assert {n: posted[n] for n in alike} == {n: pushed[n] for n in alike}
    assert point(pushed) == ("113.61437", "34.75125", "GCJ02")
    assert pushed["media"][0] == f"sha256:{sha256('1238-1')}"


def test_video_ai_a_lasting_state_is_a_report_each_time_and_then_cleared() -> None:
    *again, cleared, lift = raws("video_ai")
    assert [report["alarm_state"] for report in again] == ["open"] * 3
    assert len({report["native_id"] for report in raws("video_ai")}) == 5
    assert {report["device"] for report in [*again, cleared]} == {"M014101762601000001"}
    assert (cleared["alarm_state"], cleared["media"]) == ("cleared", [])
    assert again[0]["native_id"] == "M014101762601000001/88120417"
    assert (again[0]["category"], lift["category"]) == ("2302", "2203")
    assert point(again[0]) == ("113.70524", "34.72917", "WGS84")
    assert point(lift) == ("113.65921", "34.78206", "GCJ02")
    assert again[0]["media"] == [
        f"sha256:{sha256('88120417')} https://video.example/s/88120417.jpg"
    ]


def test_video_ai_a_camera_that_names_no_system_has_a_point_of_none() -> None:
    native = {**natives("video_ai")[0], "crs": None}
    assert raw("video_ai", native)["crs"] is None
