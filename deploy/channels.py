"""Channels at a desk: what each row of a file becomes, the channels' own page. Needs no server."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from connectors.mapping import Entry, entry_report
from schemas.channels import CHANNELS_DIR, ChannelSpec, Transports, load_channels
from schemas.city import CityPack
from schemas.codec import Codec
from schemas.registry import SchemaIds, load_lock, load_schemas
from schemas.topics import raw_topic
from streams.batch import Batch
from streams.intake.decide import IntakeStep
from streams.intake.seen import SeenIds

#: Rows that intake decides together; the result does not depend on it.
BATCH = 500
PAGE = CHANNELS_DIR / "README.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a file, its raw report and what intake makes of it."""

    number: int
    #: The raw report's fields, without those that are not filled and without the payload.
    raw: dict[str, Any]
    defects: list[str]
    #: accepted | duplicate | review | rejected
    outcome: str
    reason: str
    detail: str
    class_code: str
    class_name: str
    district: str
    grid: str


def judge(spec: ChannelSpec, entries: Iterable[Entry], city: CityPack) -> Iterator[Row]:
    """What each entry would become, in a city and in the order of the file; nothing is sent anywhere."""
    codec = Codec(SchemaIds(load_schemas(), {v: n for v, (n, _) in load_lock().items()}))
    step = IntakeStep(city, codec, b"a key for no one")
    state, encode = SeenIds(), codec.encoder("RawReport")
    rest = iter(entries)
    while part := list(islice(rest, BATCH)):
        now = int(time.time() * 1000)
        raws = [entry_report(spec, e, received_at=now, connector="test") for e in part]
        batch = Batch(
            raw_topic(spec.name),
            0,
            [None] * len(part),
            [encode(raw) for raw in raws],
            list(range(len(part))),
            [now] * len(part),
            [None] * len(part),
        )
        outputs = step.decide(state, batch, now).outputs
        outcomes = {
            outcome["source_offset"]: outcome
            for output in outputs
            if output.topic == "report.outcomes"
            for outcome in (codec.decode(output.value)[1],)
        }
        for index, (entry, raw) in enumerate(zip(part, raws, strict=True)):
            yield _row(entry, raw, outcomes[index], city)


def _row(entry: Entry, raw: dict[str, Any], outcome: dict[str, Any], city: CityPack) -> Row:
    hidden = ("channel", "received_at", "connector", "content_type", "payload", "defects")
    found = city.classes.get(outcome["class_code"])
    return Row(
        entry.number,
        {name: value for name, value in raw.items() if value and name not in hidden},
        raw["defects"],
        outcome["outcome"],
        outcome["reason"],
        outcome["detail"],
        outcome["class_code"],
        found.name if found else "",
        outcome["district_code"],
        outcome["grid_code"],
    )


def counts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Outcome → reason → rows; an outcome without a reason counts under an empty one."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row.outcome, Counter())[row.reason] += 1
    return {outcome: dict(reasons) for outcome, reasons in sorted(found.items())}


def page() -> str:
    """`connectors/channels/README.md`: every channel and everything that a spec may say."""
    specs = load_channels()
    lines = [
        "# Channels",
        "",
        "Written by `quanyu channel doc` from the files beside it and the model in `schemas/channels.py`.",
        "",
        "| channel | | kind | arrives by | points | usual gap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, spec in specs.items():
        gap = f"{spec.usual_gap_s:g} s" if spec.usual_gap_s else "learned"
        said = "as the message says" if "crs" in spec.fields and not spec.crs else spec.crs
        crs = ", ".join(dict.fromkeys([*(p.crs for p in spec.points), *filter(None, [said])]))
        arrives = ", ".join(spec.transports.names)
        lines.append(
            f"| [{name}](#{name}) | {spec.title} | {spec.kind} | {arrives} | {crs or 'none'} | {gap} |"
        )
    for name, spec in specs.items():
        lines += ["", f"## {name}", "", _preface(CHANNELS_DIR / f"{name}.yaml"), ""]
        for transport in spec.transports.names:
            options = getattr(spec.transports, transport).model_dump(exclude_defaults=True)
            words = ", ".join(f"{option} `{value}`" for option, value in options.items())
            lines.append(f"- {transport}{': ' if words else ''}{words}")
        lines += ["", "| ours | native |", "| --- | --- |"]
        lines.append(f"| id | {_source(spec.native_id)} |")
        if spec.revision:
            lines.append(f"| revision | {_source(spec.revision)} |")
        for point in spec.points:
            lines.append(f"| lon, lat ({point.crs}) | `{point.lon}`, `{point.lat}` |")
        lines += [f"| {ours} | {_source(native)} |" for ours, native in spec.fields.items()]
    lines += ["", "# What a spec may say", "", *_model(ChannelSpec)]
    for name, info in Transports.model_fields.items():
        lines += ["", f"## transports.{name}", "", *_model(_inner(info.annotation))]
    return "\n".join(lines) + "\n"


def _preface(path: Path) -> str:
    """The comment that a channel's file begins with."""
    text = path.read_text(encoding="utf-8")
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return " ".join(comment)


def _source(source: str | list[str]) -> str:
    found = [source] if isinstance(source, str) else source
    return ", else ".join(f"`{path}`" for path in found)


def _inner(annotation: Any) -> type[BaseModel]:
    """The model of an optional field."""
    found = next(a for a in annotation.__args__ if isinstance(a, type) and a is not type(None))
    assert issubclass(found, BaseModel)
    return found


def _model(model: type[BaseModel]) -> list[str]:
    lines = [" ".join((model.__doc__ or "").split()), ""]
    lines += ["| field | | default |", "| --- | --- | --- |"]
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{default!r}`"
        lines.append(f"| `{name}` | {info.description or ''} | {shown} |")
    return lines
