"""The page of the named queries, ``schemas/clickhouse/queries/README.md``, made from their headers."""

import json
from collections.abc import Mapping
from pathlib import Path

from schemas.queries import QUERIES_DIR, NamedQuery, Parameter

TILES = Path(__file__).parent / "bigscreen" / "tiles.json"
PAGE = QUERIES_DIR / "README.md"

_HEAD = """# The named queries

Made from the headers of the files beside it; `quanyu tables queries` writes it anew. How to add one:
[schemas/README.md](../../README.md). Public ones answer at `/api/queries/<name>`.

"""


def tiles() -> dict[str, list[str]]:
    """Block of the screen → its queries."""
    return {tile["id"]: tile["queries"] for tile in json.loads(TILES.read_text(encoding="utf-8"))}


def page(queries: Mapping[str, NamedQuery], blocks: Mapping[str, list[str]]) -> str:
    """Markdown: first a list, then each query with its parameters and what its numbers open."""
    shown = {name: block for block, names in blocks.items() for name in names}
    lines = ["| query | title | unit | refresh | for |", "| --- | --- | --- | --- | --- |"]
    for name, query in queries.items():
        who = (
            f"block `{shown[name]}`" if name in shown else "private" if query.private else "public"
        )
        lines.append(
            f"| [{name}](#{name}) | {_cell(query.title)} | {_cell(query.unit)} | {query.refresh_s} s | {who} |"
        )
    for name, query in queries.items():
        lines += ["", f"## {name}", "", f"**{query.title}** ({query.unit}). {query.meaning}", ""]
        if query.over:
            lines += [f"Over [{query.over}](#{query.over}).", ""]
        lines += ["| parameter | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(parameter) for parameter in query.parameters]
        lines += ["", *(_opens(query))] if query.drill_down else []
    return _HEAD + "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _row(parameter: Parameter) -> str:
    default = "" if parameter.default is None else f"`{parameter.default!r}`"
    return (
        f"| `{parameter.name}` | {parameter.type} | {_cell(default)} | {_cell(parameter.meaning)} |"
    )


def _opens(query: NamedQuery) -> list[str]:
    """What each number opens, with the arguments that it passes on."""
    lines = []
    for drill in query.drill_down:
        given = [f"{name} = {column}" for name, column in drill.from_columns.items()]
        given += [f"{name} = '{value}'" for name, value in drill.fixed.items()]
        lines.append(
            f"- `{drill.column}` opens [{drill.query}](#{drill.query})({', '.join(given)})"
        )
    return lines


def _cell(text: str) -> str:
    """Text that stays in its cell."""
    return text.replace("|", "\\|")
