"""Generated grids: as many as are declared, exactly nested, and the same again."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from deploy.city_build import apportion, build
from schemas.city import load_city
from schemas.errors import QuanyuError
from tests.unit.tiny_city import write_city, write_whole_city


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_pack_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (load_city(str(write_whole_city(tmp_path / name))) for name in ("a", "b"))
    one, other = build(first, tmp_path / "one"), build(second, tmp_path / "other")
    assert contents(one.folder) == contents(other.folder)
    assert one.digest == other.digest
    assert one.counts == dict(first.counts)


def test_another_seed_gives_other_borders(tmp_path: Path) -> None:
    one = build(load_city(str(write_whole_city(tmp_path / "a"))), tmp_path / "one")
    folder = write_whole_city(tmp_path / "b")
    text = (folder / "city.yaml").read_text(encoding="utf-8")
    (folder / "city.yaml").write_text(text.replace("seed: 7", "seed: 8"), encoding="utf-8")
    other = build(load_city(str(folder)), tmp_path / "other")
    assert one.counts == other.counts
    assert one.digest != other.digest


def test_who_asks_again_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))
    city = load_city(str(write_whole_city(tmp_path / "city")))
    first, again = build(city), build(city)
    assert (again.seconds, again.digest, again.folder) == (0.0, first.digest, first.folder)


def test_a_pack_that_generates_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match=r"city\.yaml: has no synthesis"):
        build(load_city(str(write_city(tmp_path / "city"))), tmp_path / "out")


def test_too_few_grids_for_their_parents_are_refused() -> None:
    assert sum(apportion(10, [1.0, 5.0, 0.1])) == 10
    with pytest.raises(QuanyuError, match="raise counts"):
        apportion(2, [1.0, 1.0, 1.0])


def test_every_point_of_a_border_is_in_one_grid_at_every_level_whatever_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))
    city = load_city(str(write_whole_city(tmp_path / "city")))
    build(city)
    rng = np.random.default_rng(5)
    layers = {level: city.grids.layer(level) for level in city.grids.levels}
    lines = shapely.get_parts(shapely.boundary(layers["micro"].polygons))
    corners = shapely.get_coordinates(lines)
    share = rng.random((len(lines), 7))
    between = shapely.line_interpolate_point(lines[:, None], share, normalized=True)
    lon, lat = np.concatenate([corners, shapely.get_coordinates(between)]).T
    found = city.grids.locate(lon, lat)
    assert (found != "").all()
    order = rng.permutation(len(lon))
    assert (city.grids.locate(lon[order], lat[order]) == found[order]).all()
    for level, layer in layers.items():
        index = layer.locate(lon, lat)
        assert (index >= 0).all()
        # It lies in it, or as far outside as a corner's last digit.
        away = shapely.distance(shapely.points(lon, lat), layer.polygons[index])
        assert away.max() < 1e-9, level
