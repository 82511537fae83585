"""First draft of a channel from a sample: what each column seems to be, and how sure that is. Pure.

A guess rests on the column's name, in Chinese or English, and on its values. What is not sure is left out
with the reason, where a wrong guess would go unnoticed: above all the coordinate system.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations, islice
from typing import Any

from connectors.mapping import Entry
from schemas.errors import QuanyuError
from schemas.instants import parse_instant

#: Rows that are looked at.
SAMPLE = 2_000
#: A column is of a kind when so many of its filled cells are.
MOST = 0.8

#: Field of the raw report → what its column is called. The first fields choose first.
HINTS = {
    "occurred_at": (
        r"occur|happen|call_?time|alarm_?time|found_?at|shot_?at|observed|event_?time|requested"
        r"|发生|来电时间|留言时间|报警时间|接警时间|采集时间|拍摄时间|发现时间|frame_?time"
    ),
    "submitted_at": r"submit|upload|report_?time|handed|sent_?at|提交|上报|受理时间|登记时间",
    "crs": r"^(crs|coord_?sys|coordinate_?system|坐标系)$",
    "address": r"address|addr$|place|location|地址|地点|位置",
    "district": r"district|county|ward$|区县|区划|所属区|行政区|城区",
    "street": r"(^|_)street(_?name)?$|town|街道|乡镇",
    "reporter": (
        r"phone|mobile|tel$|caller|reporter|sender|user|e_?mail|collector"
        r"|电话|手机|来电人|留言用户|用户|姓名|市民|诉求人"
    ),
    "media": r"photo|image|picture|snapshot|media|attach|照片|图片|附件",
    "device": r"device|sensor|camera|flight_?id|设备",
    "category": r"categor|class|type|kind|question_?code|事项编码|类别|类型|分类|小类",
    "title": r"title|subject|headline|summary|标题|主题|事项名称",
    "text": r"content|desc|text|body|detail|message|remark|内容|详情|描述|正文|诉求",
}
#: Never when it occurred: these times come later.
LATER = r"updat|modif|clos|finish|deadline|expire|repl|更新|修改|办结|结案|截止|期限|回复|办理"
ANY_TIME = r"time|date|(^|_)(ts|at)$|时间|日期"
IDENTITY = r"(^|_)(id|no|num|number|code|sn|uuid|seq)$|frame$|编号|单号|流水|受理号|任务号|案件号|工单号|序号"
REVISION = r"^(revision|rev|version|修订号|版本号?)$"
LON, LAT = r"(^|_)(lon|lng|long|longitude|x)$|经度", r"(^|_)(lat|latitude|y)$|纬度"
#: In a column's name → the coordinate system that it says.
NAMED_CRS = {
    r"wgs": "WGS84", r"gcj|amap|高德|火星": "GCJ02", r"bd_?09|baidu|百度": "BD09", r"cgcs|国家2000": "CGCS2000",
}  # fmt: skip
#: Orders of day and month that no reader can tell apart where both are small.
AMBIGUOUS = {"%m/%d/%Y": r"\d{1,2}/\d{1,2}/\d{4}", "%d/%m/%Y": r"\d{1,2}/\d{1,2}/\d{4}"}
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p")


#: Values that are no sentence: points, lists, addresses of the web, numbers.
_NO_WORDS = re.compile(r"[({\[]|https?://|[-+.\d]+\Z")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass
class Column:
    """A native field and what stands in it."""

    path: str
    values: list[str] = field(default_factory=list)
    listed: bool = False

    @property
    def name(self) -> str:
        """Its last part, in small letters."""
        return self.path.rpartition(".")[2].lower()

    def share(self, test: Any) -> float:
        """Share of the filled cells that pass."""
        return sum(map(bool, map(test, self.values))) / len(self.values) if self.values else 0.0

    def called(self, pattern: str) -> bool:
        """Whether its name says so; ``callTime`` is ``call_time``, ``SRType`` is ``sr_type``."""
        name = _HUMP.sub("_", self.path.rpartition(".")[2]).lower()
        return bool(re.search(pattern, name))

    @property
    def length(self) -> float:
        """Mean length of what is filled."""
        return sum(map(len, self.values)) / len(self.values) if self.values else 0.0


def columns_of(entries: Iterable[Entry]) -> tuple[list[Column], int]:
    """Columns of the entries' fields in their order, nested ones as paths, and the number of rows."""
    found: dict[str, Column] = {}
    rows = 0
    for entry in islice(entries, SAMPLE):
        if entry.fields is None:
            continue
        rows += 1
        for path, value, listed in _cells(entry.fields):
            column = found.setdefault(path, Column(path))
            column.listed |= listed
            if text := _plain(value):
                column.values.append(text)
    # A name with braces would be read as a pattern of other names; YAML takes no control characters.
    return [
        c
        for c in found.values()
        if c.values and c.path.isprintable() and not set("{}") & set(c.path)
    ], rows


def _cells(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any, bool]]:
    geojson = not before and {"geometry", "properties"} <= fields.keys()
    for name, value in fields.items():
        path = f"{before}{name}"
        if geojson and name in ("type", "geometry", "bbox"):
            continue
        if geojson and name == "centroid":
            yield from ((f"centroid.{i}", part, False) for i, part in enumerate(value))
        elif isinstance(value, dict):
            yield from _cells(value, f"{path}.")
        elif isinstance(value, list):
            yield path, json.dumps(value, ensure_ascii=False) if value else "", True
        else:
            yield path, value, False


def _plain(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass
class _Draft:
    columns: list[Column]
    rows: int
    zone: str
    #: Field → its column and why.
    fields: dict[str, tuple[Column, str]] = field(default_factory=dict)
    #: Top-level lines that are sure.
    lines: list[str] = field(default_factory=list)
    #: Top-level lines that a person must decide.
    todo: list[str] = field(default_factory=list)

    def free(self) -> list[Column]:
        """Columns that are nothing yet."""
        used = {column.path for column, _ in self.fields.values()}
        return [column for column in self.columns if column.path not in used]

    def is_time(self, column: Column) -> bool:
        """Times; numbers of ten digits only where the name speaks of time."""
        if column.share(lambda t: parse_instant(t, self.zone)) < MOST:
            return False
        return column.called(ANY_TIME) or column.share(str.isdigit) < MOST


def draft(name: str, title: str, file: str, entries: Iterable[Entry], zone: str) -> str:
    """The text of a channel's YAML; :class:`QuanyuError` when the sample holds no row or no text."""
    columns, rows = columns_of(entries)
    if not columns:
        raise QuanyuError(f"{file}: no row that can be read; a channel is guessed from its rows")
    work = _Draft(columns, rows, zone)
    identity, sure = _identity(work)
    _times(work)
    _point(work, file)
    _named(work)
    _texts(work, file)
    suffix = "." + file.rpartition(".")[2].lower()
    lines = [
        f"# {title}: first draft, guessed from {rows} rows of a sample. Each comment says what a guess",
        f"# rests on; decide what is marked TODO, and look at the result: quanyu channel test {name} FILE",
        f"title: {_quoted(title)}",
        "transports:",
        f"  file: {{patterns: [{_quoted('*' + suffix)}]}}",
        f"native_id: {_quoted(identity)}  # {sure}",
    ]
    revision = next((c for c in work.free() if c.called(REVISION)), None)
    if revision is not None:
        lines.append(f"revision: {_quoted(revision.path)}  # by its name")
    lines.append(f"time_zone: {zone}  # of times without an offset")
    lines += work.lines + work.todo
    lines.append("fields:")
    for name_, (column, why) in sorted(work.fields.items(), key=lambda item: _order(item[0])):
        lines.append(f"  {name_}: {_quoted(column.path)}  # {why}")
    rest = [c.path for c in work.free() if c is not revision and c.path not in identity]
    if rest:
        lines.append(f"# Only in the payload: {', '.join(rest)}"[:400].replace("\n", " "))
    return "\n".join(lines) + "\n"


def _order(name: str) -> int:
    order = [
        "occurred_at", "submitted_at", "title", "text", "category", "lon", "lat", "crs", "address",
        "district", "street", "reporter", "media", "device",
    ]  # fmt: skip
    return order.index(name)


def _quoted(text: str) -> str:
    """As YAML takes it whatever it is: a column may be called no, or 1."""
    return json.dumps(text, ensure_ascii=False)


def _identity(work: _Draft) -> tuple[str, str]:
    """The native id: one column, or several together, filled and different in each row."""
    named = [c for c in work.columns if c.called(IDENTITY) and not c.listed]
    full = [c for c in named if len(c.values) == work.rows]
    unique = [c for c in full if len(set(c.values)) == work.rows]
    if unique:
        return unique[0].path, f"by its name; filled and different in each of {work.rows} rows"
    for size in (2, 3):
        for some in combinations(full[:8], size):
            if len(set(zip(*(c.values for c in some), strict=True))) == work.rows:
                path = "/".join("{%s}" % c.path for c in some)  # noqa: UP031 - braces are the content
                return (
                    path,
                    f"only together different in each of {work.rows} rows; is it so for ever?",
                )
    other = [c for c in work.columns if len(c.values) == len(set(c.values)) == work.rows]
    if other:
        best = min(other, key=lambda c: c.length)
        return best.path, "TODO: the name says nothing, but it is different in each row"
    best = max(full or named or work.columns, key=lambda c: (len(set(c.values)), -c.length))
    filled, different = len(best.values), len(set(best.values))
    return best.path, (
        f"TODO: no column is unique; this one is filled in {filled} of {work.rows} rows with {different} "
        "values. Rows of one id are duplicates, rows without one are rejected"
    )


def _times(work: _Draft) -> None:
    times = [c for c in work.columns if work.is_time(c) and not c.called(LATER)]
    for name in ("occurred_at", "submitted_at"):
        found = next((c for c in times if c.called(HINTS[name])), None)
        if found is None and name == "occurred_at":
            found = next((c for c in times if not c.called(HINTS["submitted_at"])), None)
            why = "the first column of times; is it when the matter occurred?"
        else:
            why = "by its name; its values are times"
        if found is not None:
            times.remove(found)
            work.fields[name] = found, why
    if "occurred_at" in work.fields:
        return
    for column in work.columns:
        if not column.called(ANY_TIME) or column.called(LATER):
            continue
        fits = [
            day + clock
            for day in AMBIGUOUS
            for clock in CLOCKS
            if column.share(lambda t, p=day + clock: _fits(t, p)) == 1.0
        ]
        if len(fits) == 1:
            work.fields["occurred_at"] = column, "by its name; its values fit the time_format only"
            work.lines.append(
                f"time_format: {_quoted(fits[0])}  # the other order fits some value not"
            )
            return
        if fits:
            work.fields["occurred_at"] = column, "by its name; see time_format"
            work.todo.append(
                f"# TODO time_format: {' or '.join(map(_quoted, fits))}: no value tells day from month. Until "
                "it is set, the reports go to review (impossible_date)"
            )
            return


def _fits(text: str, pattern: str) -> bool:
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True


def _point(work: _Draft, file: str) -> None:
    crs = next((c for c in work.free() if c.called(HINTS["crs"])), None)
    lon, lat, sure = _axes(work)
    if lon is None or lat is None:
        return
    work.fields["lon"] = lon, "by its name; its values are numbers"
    work.fields["lat"] = lat, "by its name; its values are numbers"
    if lon.path == "centroid.0":
        work.fields["lon"] = work.fields["lat"] = lon, "the middle of the geometry"
        work.fields["lat"] = lat, "the middle of the geometry"
        sure = "WGS84"
        work.lines.append("crs: WGS84  # GeoJSON is WGS 84 (RFC 7946)")
    elif sure:
        work.lines.append(f"crs: {sure}  # the columns' names say so")
    if crs is not None:
        work.fields["crs"] = (
            crs,
            "by its name; a point of a system that is not known goes to review",
        )
    elif not sure:
        values = [abs(n) for t in lon.values + lat.values if (n := _number(t)) is not None]
        metres = max(values, default=0.0) > 400
        work.todo.append(
            "# TODO crs: CITY? The numbers are metres, of a plane that only its owner can name."
            if metres
            else "# TODO crs: WGS84, GCJ02, BD09 or CGCS2000? Degrees look alike, and a wrong guess is 570 m "
            "off in silence; ask"
        )
        work.todo.append(
            "# whose map they are. Until it is set, the points go to review (unknown_crs)."
        )


def _axes(work: _Draft) -> tuple[Column | None, Column | None, str]:
    """The columns of a point; of several pairs the one whose name says its system."""

    def numbers(column: Column) -> bool:
        return column.share(lambda t: _number(t) is not None) >= MOST

    pairs: list[tuple[str, Column, Column]] = []
    for lon in (c for c in work.free() if numbers(c)):
        if lon.path == "centroid.0":
            lat = next((c for c in work.free() if c.path == "centroid.1"), None)
        elif lon.called(LON):
            lat = next(
                (
                    c
                    for c in work.free()
                    if numbers(c)
                    and c.called(LAT)
                    and re.sub(LON, "", lon.name) == re.sub(LAT, "", c.name)
                    and c.path.rpartition(".")[0] == lon.path.rpartition(".")[0]
                ),
                None,
            )
        else:
            continue
        if lat is not None:
            named = (crs for p, crs in NAMED_CRS.items() if re.search(p, lon.path.lower()))
            pairs.append((next(named, ""), lon, lat))
    if not pairs:
        return None, None, ""
    sure, lon, lat = max(pairs, key=lambda pair: bool(pair[0]))
    return lon, lat, sure


def _named(work: _Draft) -> None:
    for name, pattern in HINTS.items():
        if name in work.fields or name in ("occurred_at", "submitted_at", "crs", "title", "text"):
            continue
        found = [c for c in work.free() if c.called(pattern) and not work.is_time(c)]
        if name in ("address", "district", "street"):
            found = [c for c in found if c.share(_is_number) < 1.0 or name == "district"]
        if name == "category":
            # Of a code and its name the code; a long text or one of its own in each row is no class.
            alone = max(work.rows, 6)
            found = [c for c in found if c.length <= 40 and len(set(c.values)) < alone]
            found.sort(key=lambda c: not c.called("code|编码"))
        if found:
            work.fields[name] = found[0], "by its name"
    if "reporter" not in work.fields:
        phone = next(
            (c for c in work.free() if c.share(re.compile(r"1\d{10}\Z").match) >= MOST), None
        )
        if phone is not None:
            work.fields["reporter"] = phone, "its values are mobile numbers"


def _is_number(text: str) -> bool:
    return _number(text) is not None


def _texts(work: _Draft, file: str) -> None:
    for name in ("title", "text"):
        found = next(
            (
                c
                for c in work.free()
                if c.called(HINTS[name]) and not c.called(f"{LATER}|{IDENTITY}")
            ),
            None,
        )
        if found is not None:
            work.fields[name] = found, "by its name"
    if "text" not in work.fields:
        long = [
            c
            for c in work.free()
            if c.length >= 20
            and len(set(c.values)) > len(c.values) // 2
            and not c.listed
            and not c.called(ANY_TIME)
            and c.share(_NO_WORDS.match) < MOST
        ]
        if long:
            best = max(long, key=lambda c: c.length)
            work.fields["text"] = best, "the column of the longest texts; the name says nothing"
    if not {"title", "text", "category"} & work.fields.keys():
        words = [c for c in work.free() if c.share(_is_number) < MOST and not work.is_time(c)]
        if not words:
            raise QuanyuError(
                f"{file}: no column of words; a channel needs a title, a text or a category"
            )
        work.fields["title"] = words[0], "TODO: no column is called so; the first one with words"
