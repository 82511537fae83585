"""Named queries as files: what a header says, and what is refused with file and line."""

from pathlib import Path

import pytest

from schemas.errors import QuanyuError
from schemas.queries import day_of, load_queries, read_query

GOOD = """-- title: 渠道来源
-- unit: 件
-- meaning: Reports of a channel.
-- refresh: 5 s
-- drill_down: n -> rows(channel = channel, kind = 'all')
-- parameter: day Date — Day of the city.
-- parameter: limit UInt32 = 10 — How many.
SELECT {day:Date} AS channel, 1 AS n LIMIT {limit:UInt32}
"""
ROWS = """-- title: 明细
-- unit: 行
-- meaning: Rows.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: channel String = '' — A channel; empty: all.
-- parameter: kind String = '' — A kind; empty: all.
SELECT {day:Date}, {channel:String}, {kind:String}
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.sql"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_header_says_what_a_number_means_and_what_it_opens(tmp_path: Path) -> None:
    written(tmp_path, "rows", ROWS)
    written(tmp_path, "by_thing", GOOD)
    query = load_queries(tmp_path)["by_thing"]
    assert (query.title, query.unit, query.refresh_s) == ("渠道来源", "件", 5)
    assert query.sql.startswith("SELECT")
    assert query.bind({"day": "2026-03-17"}) == {"day": "2026-03-17", "limit": 10}
    (drill,) = query.drill_down
    assert (drill.query, drill.from_columns, drill.fixed) == (
        "rows",
        {"channel": "channel"},
        {"kind": "all"},
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-- unit: 件\n", "", r":7: unit is missing"),
        ("5 s", "soon", r":4: refresh: 'soon'"),
        ("-- unit: 件", "-- units: 件", r":2: unknown key 'units'"),
        ("-- unit: 件", "-- title: 件", r":2: title stands twice"),
        ("{limit:UInt32}", "{count:UInt32}", r":8: \{count:UInt32\} is no parameter"),
        ("{limit:UInt32}", "{limit:String}", r":8: \{limit:String\} is UInt32 in the header"),
        (" LIMIT {limit:UInt32}", "", r":7: parameter limit is not used"),
        ("day Date —", "day DateTime —", r":6: parameter day: type DateTime"),
        ("= 10", "= ten", r":7: parameter limit: default: 'ten'"),
        ("n -> rows", "n => rows", r":5: drill_down"),
        ("-> rows(", "-> lines(", r":5: drill_down: no query lines"),
        ("kind = 'all'", "sort = 'all'", r":5: drill_down: rows has no parameter sort"),
        (GOOD[GOOD.index("SELECT") :], "", r":8: no SQL"),
    ],
)
def test_a_bad_header_is_refused_with_file_and_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    written(tmp_path, "rows", ROWS)
    assert old in GOOD
    written(tmp_path, "by_thing", GOOD.replace(old, new))
    with pytest.raises(QuanyuError, match=r"by_thing\.sql" + message):
        load_queries(tmp_path)


SUM = """-- title: 合计
-- unit: 件
-- meaning: All things.
-- refresh: 5 s
-- over: by_thing
-- parameter: least UInt8 = 0 — From how many on.
SELECT sum(n) AS n FROM by_thing WHERE n >= {least:UInt8} AND channel != {day:Date}
"""


def test_a_query_over_another_reads_its_rows_with_its_parameters(tmp_path: Path) -> None:
    written(tmp_path, "rows", ROWS)
    written(tmp_path, "by_thing", GOOD)
    query = read_query(written(tmp_path, "total", SUM))
    assert query.sql.startswith("WITH by_thing AS\n(\nSELECT {day:Date}")
    assert query.bind({"day": "2026-03-17"}) == {"day": "2026-03-17", "limit": 10, "least": 0}
    query = read_query(written(tmp_path, "total", SUM.replace("SELECT", "WITH 1 AS one SELECT")))
    assert "\n), 1 AS one SELECT" in query.sql
    for old, new, message in (
        ("over: by_thing", "over: nothing", r":5: over: no other query nothing"),
        ("over: by_thing", "over: total", r":5: over: no other query total"),
        ("least UInt8", "limit UInt8", r":6: parameter limit stands in by_thing too"),
    ):
        with pytest.raises(QuanyuError, match=message):
            read_query(written(tmp_path, "total", SUM.replace(old, new)))


OTHERS = """-- title: 别的
-- unit: 件
-- meaning: Other things.
-- refresh: 5 s
-- over: by_thing
-- parameter: at Int64 — Now.
SELECT * FROM by_thing WHERE n < {at:Int64}
"""
AGAIN = """-- title: 合计
-- unit: 件
-- meaning: The same sum over other things.
-- refresh: 5 s
-- over: total(by_thing = others)
SELECT * FROM total
"""


def test_the_same_formula_reads_other_rows(tmp_path: Path) -> None:
    written(tmp_path, "rows", ROWS)
    written(tmp_path, "by_thing", GOOD)
    written(tmp_path, "others", OTHERS)
    total = SUM.replace(" AND channel != {day:Date}", "")
    written(tmp_path, "total", total)
    again = read_query(written(tmp_path, "again", AGAIN))
    # The formula is the one of the file, over the rows of the other one.
    assert total.partition("0 — From how many on.\n")[2].strip() in again.sql
    assert "WITH by_thing AS\n(\nWITH by_thing AS" in again.sql
    assert {parameter.name for parameter in again.parameters} == {
        "at", "day", "least", "limit",
    }  # fmt: skip
    with pytest.raises(QuanyuError, match=r":5: over: total is not over nothing"):
        read_query(written(tmp_path, "again", AGAIN.replace("by_thing = ", "nothing = ")))


def test_a_drill_down_passes_the_day_on_but_not_the_limit(tmp_path: Path) -> None:
    query = load_queries()["by_class"]
    given = {"day": "2026-03-17", "time_zone": "Asia/Shanghai", "at": 1, "limit": 3}
    arguments = query.drill_down[0].arguments({"class_code": "0102", "events": 4}, given)
    assert arguments == {"day": "2026-03-17", "time_zone": "Asia/Shanghai", "class_code": "0102"}


@pytest.mark.parametrize("value", ["1e3", "1.5", "", "0x10", "４", str(2**40), True, "-1"])
def test_what_is_no_number_in_range_is_refused(tmp_path: Path, value: object) -> None:
    query = read_query(written(tmp_path, "by_thing", GOOD))
    with pytest.raises(QuanyuError, match="parameter limit"):
        query.bind({"day": "2026-03-17", "limit": value})


def test_the_citys_day_begins_at_its_own_midnight() -> None:
    before_midnight_in_china = 1773763199999  # 2026-03-17T23:59:59.999+08:00
    assert day_of(before_midnight_in_china, "Asia/Shanghai") == "2026-03-17"
    assert day_of(before_midnight_in_china + 1, "Asia/Shanghai") == "2026-03-18"
