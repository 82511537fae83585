"""`quanyu evaluate dedupe`: the merge decisions against what a city's own clerks linked."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from schemas import merge_policy
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.instants import known_zone
from schemas.settings import load_settings
from streams.merge import history


def add(group: typer.Typer) -> None:
    """Add `dedupe` to the group `evaluate`."""

    @group.command("dedupe")
    def dedupe(
        reports: Annotated[
            Path,
            typer.Option(
                help="CSV: report_id,occurred_at,category,lon,lat,crs,address,text; cells may be empty."
            ),
        ],
        pairs: Annotated[
            Path | None, typer.Option(help="CSV a,b: ids of two reports of one matter.")
        ] = None,
        flags: Annotated[
            Path | None,
            typer.Option(help="CSV report_id,is_duplicate: 1 for a repeat of an earlier report."),
        ] = None,
        policy: Annotated[
            Path | None, typer.Option(help="Merge policy; default: the city's own.")
        ] = None,
        time_zone: Annotated[
            str, typer.Option(help="Zone of times without an offset; default: the city's.")
        ] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Decide a history with the code that the agent runs; precision, recall and F1 of the truth.

        Pairs count after transitive closing; with --flags a report is told when it is not the first of its
        event. Example: quanyu evaluate dedupe --reports reports.csv --pairs pairs.csv --json
        """
        past, truth, rules = read(reports, pairs, flags, policy, time_zone)
        events = history.decide(rules, past.reports)
        found = history.score(events, past.reports, truth)
        result = {
            "reports": len(past.reports),
            "events": len(set(events.values())),
            "precision": round(found.precision, 4),
            "recall": round(found.recall, 4),
            "f1": round(found.f1, 4),
            "right": found.right,
            "told": found.told,
            "true": found.true,
            "policy": rules.version,
            "defects": len(past.defects),
        }
        if as_json:
            typer.echo(json.dumps(result, ensure_ascii=False))
        else:
            unit = "pairs" if pairs else "repeats"
            typer.echo(f"{result['reports']} reports, {result['events']} events")
            typer.echo(f"{unit}: told {found.told}, true {found.true}, both {found.right}")
            typer.echo(
                f"precision {found.precision:.3f}, recall {found.recall:.3f}, F1 {found.f1:.3f}"
            )


#: So many cells that could not be read are named; the others are counted.
NAMED = 10


def read(
    reports: Path, pairs: Path | None, flags: Path | None, policy: Path | None, time_zone: str
) -> tuple[history.History, history.Truth, merge_policy.MergePolicy]:
    """What both commands read; cells that count as empty are named on stderr."""
    if (pairs is None) == (flags is None):
        raise QuanyuError("name the truth: either --pairs or --flags")
    city = load_city(load_settings().city)
    try:
        zone = known_zone(time_zone) if time_zone else city.time_zone
    except ValueError as error:
        raise QuanyuError(f"--time-zone {time_zone}: {error}") from None
    past = history.read_reports(reports, city.classes, zone)
    stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for defect in past.defects[:NAMED]:
        stderr.print(f"{defect}; it counts as empty")
    if len(past.defects) > NAMED:
        stderr.print(f"… and {len(past.defects) - NAMED} more cells that could not be read")
    truth: history.Truth = frozenset()
    if pairs is not None:
        truth = history.read_pairs(pairs, past.reports)
    if flags is not None:
        truth = history.read_flags(flags, past.reports)
    rules = merge_policy.read_policy(policy) if policy else merge_policy.city_policy(city)
    return past, truth, rules
