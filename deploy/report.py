"""The month's report: KPIs with their comparisons, scores with their ranks, and how each number is made.

Pure: rows in, bytes out. The same facts and the same instant give the same bytes; no clock is read.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from deploy.kpi import Ask, Period, Row, compared, difference, parameters
from schemas.city import CityPack
from schemas.kpi import RATES, KpiRules, kpi_rules

#: Who is scored, and which query does it.
SCORED = {
    "centre": ("区县与开发区得分", "scorecard"),
    "street": ("街道得分", "scorecard"),
    "unit": ("承办单位得分", "scorecard"),
    "handler": ("网格员与经办人得分", "scorecard_staff"),
}
#: A page is for reading; the workbook has all.
HTML_ROWS = 60
XLSX_ROWS = 100_000
#: Why a row is left out, as `kpi_items` says it.
REASONS = {
    "invalid": "误报或不受理", "direct_answered": "直接答复", "withdrawn": "并案撤回",
    "self_handled": "自行处置", "reassigned": "已改派", "returned": "已退单",
    "status_unknown": "状态不明", "no_deadline": "无时限", "not_due": "截至时未到期",
    "suspended": "挂起中", "unreachable": "联系不上", "not_answered": "未答是否解决",
    "closed_before_opened": "结案早于受理", "due_before_opened": "时限早于受理",
    "times_disordered": "时间倒置", "no_calendar": "超出工作日历", "open_again": "结束后重新办理",
    "not_handled": "处置后退回", "no_place": "未定位到小区", "duplicate": "完全重复",
}  # fmt: skip
NOTES = (
    "应办工单按时限所在月份统计，不按受理月份；截至时刻未到期的不计。",
    "误报、不受理、直接答复、并案撤回、自行处置的工单不进入考核；退单、改派后由新工单考核。",
    "重办过的工单，不算按期处置、按期结案。",
    "环比为上月、同比为上年同月，均按相同的滞后时长取数；比率之差为百分点，时长之差为时长。",
    "中位数与 P90 取相邻两值的线性插值；工作时间按城市日历（节假日、调休）与工作时段计。",
    "得分 = Σ 权重 × 达标程度 ÷ Σ 权重，没有数据的指标不参与。",
    "达标程度：达到目标为 100，否则按值 ÷ 目标；越低越好的指标按（1 − 值）÷（1 − 目标）。",
)  # fmt: skip
_BETTER = {"high": "越高越好", "low": "越低越好"}
#: The earliest day that a zip file can tell.
_ZIP_DAY = (1980, 1, 1, 0, 0, 0)
_MODIFIED = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*(</dcterms:modified>)")


@dataclass(frozen=True, slots=True)
class Report:
    """A month's rows; ``cards``: by whom → rows of `scorecard`, ``names``: code → name."""

    city: str
    month: str
    zone: str
    period: Period
    rules: KpiRules
    rates: Sequence[Row]
    times: Sequence[Row]
    cards: Mapping[str, Sequence[Row]]
    names: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        """Whether no KPI counts anything."""
        return not any(row["denominator"] or row["left_out"] for row in self.rates)


@dataclass(frozen=True, slots=True)
class Table:
    """A title, its head and rows of text, numbers or nothing; ``scores``: the column drawn as bars."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    scores: int | None = None
    shown: int = HTML_ROWS


def gather(ask: Ask, city: CityPack, month: str, periods: tuple[Period, Period, Period]) -> Report:
    """Ask for everything that the report tells."""
    given = parameters(city, periods[0])
    cards = {by: ask(query, given | {"by": by}) for by, (_, query) in SCORED.items()}
    names = {code: centre.name for code, centre in city.centres.items()}
    names |= {row["code"]: row["name"] for row in cards["unit"]}
    return Report(
        city.name,
        month,
        city.time_zone,
        periods[0],
        kpi_rules(city),
        compared(ask, city, "kpi", periods, "kpi"),
        compared(ask, city, "kpi_time", periods, "kpi"),
        cards,
        names,
    )


def html(report: Report) -> str:
    """One page that stands for itself, to read and to print."""
    title = f"{report.city} {_month(report.month)}一网派单考核报告"
    tables = "".join(map(_html_table, _tables(report)))
    notes = "".join(f"<li>{escape(note)}</li>" for note in NOTES)
    return (
        '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(_head(report))}</p>{tables}"
        f"<section><h2>口径</h2><ol>{notes}</ol></section></body></html>\n"
    )


def xlsx(report: Report) -> bytes:
    """The same as a workbook, one sheet for each table, with exact numbers."""
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]  # a new workbook has one sheet
    at = datetime.fromtimestamp(report.period.at / 1000, UTC).replace(tzinfo=None, microsecond=0)
    book.properties.creator = "quanyu"
    book.properties.created = at
    notes = Table("口径", ("口径",), [(_head(report),), *((note,) for note in NOTES)])
    for table in (*_tables(report), notes):
        sheet = book.create_sheet(table.title)
        for number, line in enumerate([table.head, *table.rows[:XLSX_ROWS]], 1):
            for column, value in enumerate(line, 1):
                cell = sheet.cell(number, column)
                if isinstance(value, str):
                    cell.value = ILLEGAL_CHARACTERS_RE.sub("", value)
                    # Text never becomes a formula.
                    cell.data_type = "s"
                else:
                    cell.value = value
                if number == 1:
                    cell.font = Font(bold=True)
                    cell.fill = PatternFill("solid", fgColor="DCE6F2")
                    cell.alignment = Alignment(wrap_text=True, vertical="top")
        sheet.freeze_panes = "A2"
        for column, head in enumerate(table.head, 1):
            sheet.column_dimensions[get_column_letter(column)].width = max(10, 2.2 * len(head))
    written = io.BytesIO()
    book.save(written)
    return _timeless(written.getvalue(), at)


def _timeless(workbook: bytes, at: datetime) -> bytes:
    """The workbook without the moment at which it was written."""
    found = io.BytesIO()
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as source,
        zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = _MODIFIED.sub(rb"\g<1>" + stamp + rb"\g<2>", content)
            entry = zipfile.ZipInfo(name, _ZIP_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return found.getvalue()


def _tables(report: Report) -> Iterable[Table]:
    rates = [
        [
            row["term"], _percent(row["value"]), row["numerator"], row["denominator"],
            _points(difference(row, row["before"])), _points(difference(row, row["year_before"])),
            _reasons(row["excluded"]), row["formula"],
        ]
        for row in report.rates
    ]  # fmt: skip
    yield Table(
        "考核指标",
        ("指标", "值", "分子", "分母", "环比（百分点）", "同比（百分点）", "不计入", "公式"),
        rates,
    )
    times = [
        [
            row["term"], row["clock"], row["n"],
            *(_duration(row[name], row["clock"]) for name in ("mean_ms", "median_ms", "p90_ms")),
            *(_duration(difference(row, row[other], "mean_ms"), row["clock"], signed=True)
              for other in ("before", "year_before")),
            _reasons(row["excluded"]), row["formula"],
        ]
        for row in report.times
    ]  # fmt: skip
    yield Table(
        "办理时长",
        ("时长", "计时", "件数", "平均", "中位数", "P90", "环比（平均）", "同比（平均）", "不计入", "公式"),
        times,
    )  # fmt: skip
    terms = {row["kpi"]: row["term"] for row in report.rates}
    for by, (title, _) in SCORED.items():
        yield _card(report, title, report.cards[by], terms)
    yield Table(
        "权重与目标",
        ("指标", "权重", "目标", "方向"),
        [
            (terms[kpi], line.weight, _percent(line.target), _BETTER[RATES[kpi]])
            for kpi, line in report.rules.scorecard.items()
        ],
    )


def _card(report: Report, title: str, rows: Sequence[Row], terms: dict[str, str]) -> Table:
    """Who is scored in rows, each KPI with how many it counts in columns."""
    kpis = list(report.rules.scorecard)
    by_code: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_code.setdefault(row["code"], {})[row["kpi"]] = row
    lines = []
    for code, found in by_code.items():
        any_row = next(iter(found.values()))
        score = any_row["score"]
        line = [
            any_row["rank"],
            code,
            report.names.get(code, ""),
            None if score is None else round(score, 1),
        ]
        for kpi in kpis:
            scored = found.get(kpi)
            if scored and scored["denominator"]:
                counts = f"{scored['numerator']}/{scored['denominator']}"
                line.append(f"{_percent(scored['value'])} ({counts})")
            else:
                line.append("–")
        lines.append(line)
    head = ("名次", "编码", "名称", "得分", *(terms[kpi] for kpi in kpis))
    return Table(title, head, lines, scores=3)


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    body = "".join(
        "<tr>"
        + "".join(_html_cell(value, column == table.scores) for column, value in enumerate(row))
        + "</tr>"
        for row in table.rows[: table.shown]
    )
    more = len(table.rows) - table.shown
    if not table.rows:
        rest = "<p>本月没有数据。</p>"
    elif more > 0:
        rest = f"<p>另有 {more} 行，见表格文件。</p>"
    else:
        rest = ""
    return (
        f"<section><h2>{escape(table.title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{rest}</section>"
    )


def _html_cell(value: str | float | int | None, is_score: bool) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if not is_score:
        return f'<td class="n">{value:,}</td>'
    width = max(0.0, min(100.0, float(value)))
    return (
        f'<td class="n"><svg width="60" height="10" viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="100" height="10" fill="#e3e9f2"/>'
        f'<rect width="{width:.1f}" height="10" fill="#0072b2"/></svg> {value:.1f}</td>'
    )


def _head(report: Report) -> str:
    period = report.period
    since, until = (_clock(t, report.zone) for t in (period.since, period.until))
    return f"统计期：{since} 至 {until}（不含）；数据截至 {_clock(period.at, report.zone)}。"


def _month(month: str) -> str:
    year, number = month.split("-")
    return f"{year} 年 {int(number)} 月"


def _clock(at: int, zone: str) -> str:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"


def _duration(ms: float | None, clock: str, *, signed: bool = False) -> str:
    """Days and hours of the wall clock; of work time hours, as a work day has not 24 of them."""
    if ms is None:
        return "–"
    sign = ("−" if ms < 0 else "+") if signed else ""
    minutes = round(abs(ms) / 60_000)
    days, hours = divmod(minutes // 60, 24)
    if clock == "工作时间":
        return f"{sign}{abs(ms) / 3_600_000:.1f} 工作时"
    if days:
        return f"{sign}{days} 天 {hours} 小时"
    return f"{sign}{hours} 小时 {minutes % 60} 分" if hours else f"{sign}{minutes} 分"


def _reasons(excluded: dict[str, Any]) -> str:
    return "，".join(f"{REASONS.get(reason, reason)} {n}" for reason, n in sorted(excluded.items()))


_STYLE = (
    "@page{size:A4 landscape;margin:12mm}"
    'body{font:14px/1.5 "Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;color:#16202e;'
    "background:#fff;margin:24px;max-width:1500px}"
    "h1{font-size:22px}h2{font-size:17px;margin:24px 0 8px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{border:1px solid #b9c4d4;padding:4px 6px;text-align:left;vertical-align:top}"
    "th{background:#e9eff7}td.n{text-align:right;white-space:nowrap}"
    "thead{display:table-header-group}tr{break-inside:avoid}"
    "section{overflow-x:auto}@media print{section{overflow:visible}body{margin:0;font-size:11px}}"
)
