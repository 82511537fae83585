"""A second city, of this test tree only: nothing in code may know another's names or codes.

Three square districts 0.1° wide. East and west share the border 20.1°E and the zone ``core``; north is
a zone of its own. The eastern one has the lower code, so no order on the ground decides a border.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from schemas.city import CityPack, load_city

EAST, WEST, NORTH, HARBOUR = "990102", "990103", "990104", "990171"
#: Far inside each district (CGCS2000 degrees).
IN_EAST, IN_WEST, IN_NORTH = (20.1512, 50.0512), (20.0512, 50.0512), (20.0512, 50.1512)

DOCUMENT = """\
code: "990100"
name: 雨城
time_zone: Europe/Warsaw
zones:
  core: ["990102", "990103"]
areas:
  "990171": {name: 雨城港区, aliases: [新港]}
merge:
  default: {radius_m: 100, hours: 24}
  classes:
    "02": {radius_m: 300, hours: 6}
departments:
  雨水局: {code: YS, level: city}
  街灯队: {code: JD, level: district}
fallback: {name: 值班室, code: ZB}
calendar:
  hours: [["08:00", "12:00"], ["13:00", "16:00"]]
  weekend: [7]
  holidays: ["2026-03-05"]
  workdays: ["2026-03-08"]
"""
TAXONOMY = (
    ("0101", "积水", "排水", "雨水局", "4wh", "2", "积水|路面积水|雨水倒灌"),
    ("0102", "井盖丢失", "排水", "雨水局", "2uh", "1", "井盖|井盖丢失"),
    ("0201", "路灯不亮", "照明", "街灯队|雨水局", "2wd", "3", "路灯|路灯不亮"),
    ("0202", "噪声", "照明", "无此部门", "3nd", "3", "噪声|吵闹"),
    ("2999", "未分类", "其他", "", "1wd", "3", ""),
)
STREETS = (
    ("990102001", "长堤街道", EAST),
    ("990102002", "同名街道", EAST),
    ("990103001", "磨坊街道", WEST),
    ("990103002", "同名街道", WEST),
    ("990104001", "山口镇", NORTH),
    ("990171001", "码头街道", HARBOUR),
)
#: What makes five levels of it: everything below the districts is generated.
SYNTHESIS = """\
counts: {district: 3, street: 5, community: 10, compound: 24, micro: 60, special: 6}
synthesis:
  seed: 7
  valid_from: 2020-01-01
  centres:
    "990102": [20.11, 50.05]
  urban: [坊]
  names:
    compound_urban: [甲院, 乙院]
    compound_rural: [一组, 二组]
    again: "{name}{n}号"
    micro: "{n}格"
    special: [学堂, 码头]
  staff:
    total: 120
    roles: {district: 区长, micro: 格长}
    helper: 帮手
    person: 假人
"""


def square(west: float, south: float) -> dict[str, object]:
    """A square of 0.1° as GeoJSON geometry."""
    east, north = round(west + 0.1, 6), round(south + 0.1, 6)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(code: str, name: str, geometry: Mapping[str, object]) -> dict[str, object]:
    """A grid as GeoJSON feature."""
    properties = {"code": code, "name": name, "valid_from": "2020-01-01", "valid_to": None}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def write_city(folder: Path) -> Path:
    """Write the pack into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "city.yaml").write_text(DOCUMENT, encoding="utf-8")
    features = [
        feature(WEST, "西山区", square(20.0, 50.0)),
        feature(NORTH, "北原区", square(20.0, 50.1)),
        feature(EAST, "东湾区", square(20.1, 50.0)),
    ]
    (folder / "districts.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8"
    )
    columns = ("code", "name", "class_name", "departments", "deadline", "level", "keywords")
    for name, header, rows in (
        ("taxonomy.csv", columns, TAXONOMY),
        ("streets.csv", ("code", "name", "district"), STREETS),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([header, *rows])
    return folder


def write_whole_city(folder: Path) -> Path:
    """Write a faultless pack of the same city with all levels; its grids are not built yet."""
    write_city(folder)
    with (folder / "city.yaml").open("a", encoding="utf-8") as out:
        out.write(SYNTHESIS)
    taxonomy = folder / "taxonomy.csv"
    text = taxonomy.read_text(encoding="utf-8")
    taxonomy.write_text(text.replace("无此部门", "雨水局"), encoding="utf-8")
    communities = [
        (f"{street}{n:03d}", f"{name[:2]}{kind}", street)
        for street, name, _ in STREETS
        for n, kind in ((1, "坊"), (2, "村"))
    ]
    for name, header, rows in (
        ("communities.csv", ("code", "name", "street"), communities),
        (
            "duty.csv",
            (
                *("class_code", "condition", "area", "department", "level", "deadline"),
                *("closed_when", "partners"),
            ),
            [("0102", "", "", "雨水局", "city", "2uh", "井盖已补", "街灯队")],
        ),
        (
            "units.csv",
            ("code", "name", "aliases", "members"),
            [("U1", "两岸", "老城", f"{EAST}|{WEST}"), ("U2", "外围", "", f"{NORTH}|{HARBOUR}")],
        ),
        (
            "gazetteer.csv",
            ("name", "kind", "level", "code"),
            [("钟楼", "地标", "street", "990102001"), ("山口", "地标", "district", NORTH)],
        ),
        ("aliases.csv", ("alias", "name"), [("大钟", "钟楼")]),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([header, *rows])
    return folder


def tiny_city(folder: Path) -> CityPack:
    """The pack, written and loaded."""
    return load_city(str(write_city(folder)))


def at(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Points as the two columns that the batch functions take."""
    columns = np.array(points, dtype=np.float64)
    return columns[:, 0].copy(), columns[:, 1].copy()
