"""Every system comes back to within a metre, and known points lie where others publish them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coordinates import (
    FROM_CGCS2000,
    TO_CGCS2000,
    Plane,
    gcj02_to_bd09,
    wgs84_to_gcj02,
)
from schemas.grids import METRES_PER_DEGREE

CHINA = st.tuples(st.floats(73.7, 135.0), st.floats(18.2, 53.5))


def metres(lon: float, lat: float, x: float, y: float) -> float:
    return float(np.hypot((lon - x) * np.cos(np.radians(lat)), lat - y) * METRES_PER_DEGREE)


@pytest.mark.parametrize("crs", sorted(TO_CGCS2000))
@given(point=CHINA)
def test_there_and_back_is_less_than_a_metre(crs: str, point: tuple[float, float]) -> None:
    lon, lat = np.array([point[0]]), np.array([point[1]])
    x, y = TO_CGCS2000[crs](*FROM_CGCS2000[crs](lon, lat))
    assert metres(point[0], point[1], x[0], y[0]) < 0.01


@pytest.mark.parametrize("crs", sorted(TO_CGCS2000))
def test_a_batch_is_its_points_one_by_one(crs: str) -> None:
    lon, lat = np.linspace(113.0, 114.0, 7), np.linspace(34.0, 35.0, 7)
    x, y = TO_CGCS2000[crs](lon, lat)
    for i in range(7):
        one = TO_CGCS2000[crs](lon[i : i + 1], lat[i : i + 1])
        assert (one[0][0], one[1][0]) == pytest.approx((x[i], y[i]), abs=1e-12)


def test_a_known_point_lies_where_the_public_formula_puts_it() -> None:
    # Tiananmen, the example that most implementations of the formula carry in their tests.
    lon, lat = wgs84_to_gcj02(np.array([116.404]), np.array([39.915]))
    assert (lon[0], lat[0]) == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-9)
    lon, lat = gcj02_to_bd09(np.array([116.404]), np.array([39.915]))
    assert (lon[0], lat[0]) == pytest.approx((116.41036949371029, 39.92133699351021), abs=1e-9)


def test_an_obfuscated_point_taken_for_plain_is_hundreds_of_metres_off() -> None:
    lon, lat = wgs84_to_gcj02(np.array([113.65]), np.array([34.75]))
    assert 400 < metres(113.65, 34.75, lon[0], lat[0]) < 700


def test_both_tables_know_the_same_systems() -> None:
    assert TO_CGCS2000.keys() == FROM_CGCS2000.keys()


@pytest.mark.parametrize("crs", sorted(TO_CGCS2000))
def test_what_is_not_a_number_stays_that_and_raises_nothing(crs: str) -> None:
    x, y = TO_CGCS2000[crs](np.array([np.nan, 113.65]), np.array([np.nan, 34.75]))
    assert np.isnan([x[0], y[0]]).all()
    assert np.isfinite([x[1], y[1]]).all()


@given(
    east=st.floats(-1.5, 1.5),
    lat=st.floats(18.2, 53.5),
    plane=st.builds(
        Plane,
        central_meridian=st.floats(75.0, 135.0),
        origin_latitude=st.floats(0.0, 50.0),
        scale=st.floats(0.9996, 1.0004),
        false_easting=st.floats(-1e6, 1e6),
        false_northing=st.floats(-1e7, 1e7),
    ),
)
def test_a_citys_plane_there_and_back_is_less_than_a_metre(
    east: float, lat: float, plane: Plane
) -> None:
    lon = plane.central_meridian + east
    x, y = plane.to_cgcs2000(*plane.from_cgcs2000(np.array([lon]), np.array([lat])))
    assert metres(lon, lat, x[0], y[0]) < 0.01


@pytest.mark.parametrize("crs", sorted(TO_CGCS2000))
@given(lon=st.floats(-180.0, 180.0), lat=st.sampled_from([-90.0, 90.0, 0.0]))
def test_poles_and_the_equator_raise_nothing(crs: str, lon: float, lat: float) -> None:
    x, y = TO_CGCS2000[crs](np.array([lon]), np.array([lat]))
    assert (x.shape, y.shape) == ((1,), (1,))
