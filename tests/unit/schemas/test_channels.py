"""A channel is one file; a mistake in it is named by file, line and field."""

from pathlib import Path

import pytest

from schemas.channels import channel_names, load_channel, load_channels, read_channel
from schemas.errors import QuanyuError

GOOD = """\
title: a test
transports: [http]
native_id: id
time_zone: Europe/Warsaw
crs: GCJ02
fields:
  title: [title, headline]
  lon: place.lng
  lat: place.lat
"""


def read(folder: Path, text: str, name: str = "a_test.yaml") -> None:
    (folder / name).write_text(text, encoding="utf-8")
    read_channel(folder / name)


def test_the_files_stem_is_the_channels_name(tmp_path: Path) -> None:
    (tmp_path / "a_test.yaml").write_text(GOOD)
    spec = read_channel(tmp_path / "a_test.yaml")
    assert (spec.name, spec.fields["title"], spec.kind) == (
        "a_test",
        ["title", "headline"],
        "human",
    )


def test_every_channel_of_the_repository_is_valid() -> None:
    found = load_channels()
    assert sorted(found) == channel_names()
    assert all(spec.name == name for name, spec in found.items())


def test_an_unknown_channel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(QuanyuError, match=r"no channel 'nobody'; known: .*hotline12345"):
        load_channel("nobody")
    with pytest.raises(QuanyuError, match="no channel"):
        load_channel("../channels/hotline12345")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: a test\n", "", r":1: title: "),
        ("native_id: id\n", "", r"native_id: "),
        ("[http]", "[]", r":2: transports: "),
        ("GCJ02", "GCJ-02", r":5: crs: "),
        ("Europe/Warsaw", "Europe/Nowhere", r":4: time_zone: .*no time zone 'Europe/Nowhere'"),
        ("  title:", "  tilte:", r"fields\.tilte"),
        ("  lat: place.lat\n", "", "lon and lat come together"),
        ("  title: [title, headline]\n", "", "at least one of title, text, category"),
        ("[title, headline]", "[]", r":7: fields\.title"),
        ("crs: GCJ02", "crs: GCJ02\nusual_gap_s: 0", r":6: usual_gap_s"),
        ("crs: GCJ02", "crs: GCJ02\nname: other", r":6: name: is not set here"),
        ("crs: GCJ02", "crs: GCJ02\nunknown: 1", r":6: unknown: "),
        ("fields:", "fields: [", r"not YAML"),
        (GOOD, "just words", r":1: must be a mapping"),
        (GOOD, "", r":1: must be a mapping"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(QuanyuError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "a_test.yaml" in str(caught.value)


def test_a_file_whose_name_is_no_channel_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="name"):
        read(tmp_path, GOOD, "A-Test.yaml")


def test_a_file_in_another_encoding_is_refused_at_its_byte(tmp_path: Path) -> None:
    (tmp_path / "a_test.yaml").write_bytes("title: 热线".encode("gb18030"))
    with pytest.raises(QuanyuError, match=r"a_test\.yaml: not UTF-8 at byte 7"):
        read_channel(tmp_path / "a_test.yaml")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="is missing"):
        read_channel(tmp_path / "a_test.yaml")
