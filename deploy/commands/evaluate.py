"""`quanyu evaluate`: the pipeline's decisions, held against what is known."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands import classify, evaluate_dedupe, evaluate_kpi, evaluate_places
from deploy.evaluate_simulation import (
    Evaluation,
    Measures,
    Share,
    evaluate_simulation,
    newest_truth,
)
from schemas.settings import load_settings

#: More accepted reports without an event than this share: merge is probably behind.
BEHIND = 0.01
OUTCOMES = ("accepted", "review", "rejected", "duplicate")


def register(app: typer.Typer) -> None:
    """Add the group `evaluate`."""
    group = typer.Typer(
        help="Hold the pipeline's decisions against what is known.", no_args_is_help=True
    )
    app.add_typer(group, name="evaluate")
    evaluate_dedupe.add(group)
    evaluate_places.add(group)
    evaluate_kpi.add(group)
    classify.add_evaluate(group)

    @group.command("simulation")
    def simulation(
        truth: Annotated[
            Path | None,
            typer.Option(help="Truth of a run; default: the newest below <home>/truth."),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Compare a simulated run's truth with what became of its reports, overall and by channel.

        Wait until `quanyu audit` is at rest before. Exit 2 without a truth or without rows.
        Example: quanyu evaluate simulation --json
        """
        settings = load_settings()
        path = truth or newest_truth(settings)
        stderr = Console(stderr=True, highlight=False)
        found = evaluate_simulation(settings, path, progress=stderr.print)
        overall = found.overall
        if overall.lost or overall.without_event > BEHIND * overall.reports:
            stderr.print(
                f"{overall.lost} reports have no outcome and {overall.without_event} no event: "
                "is the pipeline at rest? see quanyu audit"
            )
        if as_json:
            typer.echo(json.dumps({"truth": str(path), **found.as_dict()}, ensure_ascii=False))
        else:
            _print(found, path, Console(highlight=False))


def _print(found: Evaluation, path: Path, console: Console) -> None:
    counts = Table("channel", "sent", "lost", *OUTCOMES, title=path.name)
    right = Table(
        *("channel", "pair F1", "precision", "recall", "class", "micro-grid"),
        title="right (micro-grid: of reports with a point)",
    )
    for name, measures in {"all": found.overall, **found.channels}.items():
        kinds = [
            *(str(measures.outcomes[kind]) for kind in OUTCOMES[:-1]),
            str(measures.duplicates),
        ]
        counts.add_row(name, str(measures.sent), str(measures.lost), *kinds)
        right.add_row(name, *_cells(measures))
    console.print(counts)
    console.print(right)
    grids = Table("grid", "with a point", "without", title="grids of accepted reports, right")
    for level, (told, untold) in found.overall.grids.items():
        if told.of or untold.of:
            grids.add_row(level, _share(told), _share(untold))
    console.print(grids)
    twice = found.dispatched_twice
    console.print(f"given twice to one unit: {_of(twice)} matters with an order")
    parked = found.parked
    console.print(
        f"waiting for a person, as they may be known: {_of(parked.waiting)} orders; "
        f"{_of(parked.known)} are; {parked.ever} ever waited"
    )
    console.print(f"given twice if all of them were dispatched unanswered: {_of(parked.twice)}")
    splits = found.overall.splits
    console.print(
        f"taken apart: {splits.right} of {splits.several} messages of several matters, {splits.wrong} wrongly"
    )


def _cells(measures: Measures) -> list[str]:
    pairs = measures.pairs
    return [
        *(_number(value) for value in (pairs.f1, pairs.precision, pairs.recall)),
        _share(measures.class_of_accepted),
        _share(measures.grids["micro"][0]),
    ]


def _of(share: Share) -> str:
    percent = f" ({share.right / share.of:.2%})" if share.of else ""
    return f"{share.right} of {share.of}{percent}"


def _share(share: Share) -> str:
    return _number(share.right / share.of if share.of else None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
