"""Coordinate systems: everything is stored in CGCS2000, whatever it came in.

CGCS2000 and WGS-84 differ by about 0.1 mm and are one system for a grid. GCJ-02 is the obfuscated system
of Chinese map services, some hundred metres off; BD-09 is Baidu's on top of it. The forward formulas
are the ones in public use; the inverse iterates them until the error is far below a metre. A city's own
plane (城市独立坐标系) counts in metres and is defined in the city's pack.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pyproj import Transformer

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]

#: Krasovsky 1940, the ellipsoid that the GCJ-02 formula is written for: semi-major axis (m), e².
AXIS = 6378245.0
E2 = 0.00669342162296594323
BAIDU = np.pi * 3000.0 / 180.0
#: Each step shrinks the error about a thousandfold; four reach rounding.
INVERSE_STEPS = 4


def wgs84_to_gcj02(lon: Floats, lat: Floats) -> Pair:
    """WGS-84 or CGCS2000 degrees → GCJ-02 degrees; points in China only."""
    x, y = lon - 105.0, lat - 35.0
    root = np.sqrt(np.abs(x))
    waves = (20.0 * np.sin(6.0 * x * np.pi) + 20.0 * np.sin(2.0 * x * np.pi)) * 2.0 / 3.0
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + waves
    north += (20.0 * np.sin(y * np.pi) + 40.0 * np.sin(y / 3.0 * np.pi)) * 2.0 / 3.0
    north += (160.0 * np.sin(y / 12.0 * np.pi) + 320.0 * np.sin(y * np.pi / 30.0)) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + waves
    east += (20.0 * np.sin(x * np.pi) + 40.0 * np.sin(x / 3.0 * np.pi)) * 2.0 / 3.0
    east += (150.0 * np.sin(x / 12.0 * np.pi) + 300.0 * np.sin(x / 30.0 * np.pi)) * 2.0 / 3.0
    radians = np.radians(lat)
    magic = 1.0 - E2 * np.sin(radians) ** 2
    north = np.degrees(north / (AXIS * (1.0 - E2) / (magic * np.sqrt(magic))))
    east = np.degrees(east / (AXIS / np.sqrt(magic) * np.cos(radians)))
    return lon + east, lat + north


def gcj02_to_bd09(lon: Floats, lat: Floats) -> Pair:
    """GCJ-02 degrees → BD-09 degrees."""
    z = np.hypot(lon, lat) + 0.00002 * np.sin(lat * BAIDU)
    theta = np.arctan2(lat, lon) + 0.000003 * np.cos(lon * BAIDU)
    return z * np.cos(theta) + 0.0065, z * np.sin(theta) + 0.006


def _inverse(forward: Callable[[Floats, Floats], Pair], lon: Floats, lat: Floats) -> Pair:
    x, y = lon, lat
    for _ in range(INVERSE_STEPS):
        ahead_lon, ahead_lat = forward(x, y)
        x, y = x - (ahead_lon - lon), y - (ahead_lat - lat)
    return x, y


def gcj02_to_wgs84(lon: Floats, lat: Floats) -> Pair:
    """GCJ-02 degrees → WGS-84 degrees, by iteration."""
    return _inverse(wgs84_to_gcj02, lon, lat)


def bd09_to_gcj02(lon: Floats, lat: Floats) -> Pair:
    """BD-09 degrees → GCJ-02 degrees, by iteration."""
    return _inverse(gcj02_to_bd09, lon, lat)


def bd09_to_wgs84(lon: Floats, lat: Floats) -> Pair:
    """BD-09 degrees → WGS-84 degrees."""
    return gcj02_to_wgs84(*bd09_to_gcj02(lon, lat))


def _same(lon: Floats, lat: Floats) -> Pair:
    return lon, lat


def _wgs84_to_bd09(lon: Floats, lat: Floats) -> Pair:
    return gcj02_to_bd09(*wgs84_to_gcj02(lon, lat))


#: CRS name → degrees to CGCS2000 degrees. A CRS that is not here is unknown: review, never a guess.
TO_CGCS2000: dict[str, Callable[[Floats, Floats], Pair]] = {
    "WGS84": _same,
    "CGCS2000": _same,
    "GCJ02": gcj02_to_wgs84,
    "BD09": bd09_to_wgs84,
}
#: CGCS2000 degrees → degrees of the CRS.
FROM_CGCS2000: dict[str, Callable[[Floats, Floats], Pair]] = {
    "WGS84": _same,
    "CGCS2000": _same,
    "GCJ02": wgs84_to_gcj02,
    "BD09": _wgs84_to_bd09,
}


class Plane(BaseModel):
    """A city's plane: transverse Mercator on the CGCS2000 ellipsoid, x east and y north in metres."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    central_meridian: float = Field(ge=-180, le=180, description="Degrees east.")
    origin_latitude: float = Field(default=0.0, ge=-90, le=90, description="Degrees north.")
    scale: float = Field(default=1.0, gt=0.9, lt=1.1, description="On the central meridian.")
    false_easting: float = Field(default=500_000.0, description="x of the origin (m).")
    false_northing: float = Field(default=0.0, description="y of the origin (m).")

    @cached_property
    def _transformer(self) -> "Transformer":
        from pyproj import Transformer  # a tenth of a second that few processes need

        return Transformer.from_crs(
            "+proj=longlat +ellps=GRS80",
            f"+proj=tmerc +lon_0={self.central_meridian} +lat_0={self.origin_latitude}"
            f" +k={self.scale} +x_0={self.false_easting} +y_0={self.false_northing} +ellps=GRS80",
            always_xy=True,
        )

    def to_cgcs2000(self, x: Floats, y: Floats) -> Pair:
        """Metres of the plane → CGCS2000 degrees; infinite where the plane ends."""
        lon, lat = self._transformer.transform(x, y, direction="INVERSE")
        return np.asarray(lon), np.asarray(lat)

    def from_cgcs2000(self, lon: Floats, lat: Floats) -> Pair:
        """CGCS2000 degrees → metres of the plane."""
        x, y = self._transformer.transform(lon, lat)
        return np.asarray(x), np.asarray(y)
