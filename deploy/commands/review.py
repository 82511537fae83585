"""`quanyu review`: what waits for a person, the answers, and what is learnt from them."""

import csv
import json
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.commands.event import Json, Wait, Who, Why, ask
from deploy.desk import Actor, at_desk
from schemas.errors import QuanyuError
from schemas.settings import load_settings

#: What is shown of a report that waits, and of two events that may be one.
REVIEW = ("channel", "reason", "detail", "category", "title", "text", "address")
DOUBT = ("order_id", "score", "reason", "title", "address", "into_title", "into_address")


def register(app: typer.Typer) -> None:
    """Add `review list`, `review answer` and `review export`."""
    group = typer.Typer(no_args_is_help=True, help="What waits for a person.")
    app.add_typer(group, name="review")

    @group.command("list")
    def list_(
        doubts: Annotated[
            bool, typer.Option("--events", help="Pairs of events that may be one.")
        ] = False,
        limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
        as_json: Json = False,
    ) -> None:
        """List reports that wait for a person, personal data masked; --events: events that may be one.

        Example: quanyu review list --limit 5
        """
        with at_desk(load_settings()) as desk:
            rows = desk.doubts(limit) if doubts else desk.reviews(limit)
        if as_json:
            typer.echo(json.dumps({"rows": rows}, ensure_ascii=False))
            return
        if not rows:
            typer.echo("nothing waits")
            return
        console = Console(highlight=False)
        for row in rows:
            head = f"{row['event_id']}  into  {row['into']}" if doubts else row["report_id"]
            console.print(head, style="bold", soft_wrap=True)
            names = DOUBT if doubts else REVIEW
            said = {name: " ".join(str(row[name]).split())[:200] for name in names if row[name]}
            for name, value in said.items():
                console.print(f"  {name}: {value}", markup=False, soft_wrap=True)
        typer.echo(f"{rows[0]['total']} in all")

    @group.command("answer")
    def answer(
        report: Annotated[str, typer.Argument(help="Id of a report that waits.")],
        class_code: Annotated[str, typer.Option("--class", help="Its class, e.g. 0110.")] = "",
        grid: Annotated[str, typer.Option("--grid", help="Its grid, of any level.")] = "",
        point: Annotated[
            str, typer.Option("--point", help="Or its point: lon,lat in CGCS2000 degrees.")
        ] = "",
        reject: Annotated[
            bool, typer.Option("--reject", help="It is no matter of the city.")
        ] = False,
        reason: Why = "",
        actor: Who = "operator",
        wait: Wait = 20.0,
        as_json: Json = False,
    ) -> None:
        """Accept a report with its class and place, or reject it. What is left out stays as it was found.

        Example: quanyu review answer 0e2f… --class 0110 --grid 990102001
        """
        said: dict[str, Any] = {"class_code": class_code, "grid_code": grid}
        if point:
            try:
                said["lon"], said["lat"] = (float(part) for part in point.split(","))
            except ValueError:
                raise QuanyuError(
                    f"--point {point!r}: write lon,lat, e.g. 113.6501,34.7466"
                ) from None
        who, what = Actor(actor, "centre"), "reject" if reject else "accept"
        ask(lambda desk: desk.answer(who, report, what, reason, **said), wait, as_json)

    @group.command("export")
    def export(
        out: Annotated[Path, typer.Option("--out", help="Folder; made when it is not there.")],
        as_json: Json = False,
    ) -> None:
        """Write what people said as training data: classes.csv, and reports.csv with pairs.csv.

        Example: quanyu review export --out taught && quanyu train classify --data taught/classes.csv --out m
        """
        with at_desk(load_settings()) as desk:
            rows = desk.rows("taught")
        out.mkdir(parents=True, exist_ok=True)
        classes = [row for row in rows if row["class_method"] == "person"]
        _write(
            out / "classes.csv",
            ("text", "label", "title"),
            [(r["text"], r["class_code"], r["title"]) for r in classes],
        )
        together: dict[str, list[str]] = defaultdict(list)
        matters = [row for row in rows if row["event_id"]]
        for row in matters:
            together[row["event_id"]].append(row["report_id"])
        _write(
            out / "reports.csv",
            ("report_id", "occurred_at", "category", "lon", "lat", "crs", "address", "text"),
            [
                (
                    r["report_id"], _iso(r["occurred_at"]), r["class_code"], r["lon"], r["lat"],
                    "CGCS2000" if r["lon"] is not None else "", r["address"], f"{r['title']} {r['text']}",
                )
                for r in matters
            ],
        )  # fmt: skip
        pairs = [pair for group in together.values() for pair in pairwise(group)]
        _write(out / "pairs.csv", ("a", "b"), pairs)
        counts = {"classes": len(classes), "reports": len(matters), "pairs": len(pairs)}
        if as_json:
            typer.echo(json.dumps(counts))
        else:
            typer.echo(f"{out}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))


def _write(path: Path, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
