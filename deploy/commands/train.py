"""`quanyu train`: rules learnt from a city's own history."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from deploy.commands import classify
from deploy.commands.evaluate_dedupe import read
from schemas.errors import QuanyuError
from schemas.merge_policy import write_policy
from streams.merge import history


def register(app: typer.Typer) -> None:
    """Add the group `train`."""
    group = typer.Typer(help="Learn from a city's own history.", no_args_is_help=True)
    app.add_typer(group, name="train")
    classify.add_train(group)

    @group.command("dedupe")
    def dedupe(
        reports: Annotated[
            Path,
            typer.Option(
                help="CSV: report_id,occurred_at,category,lon,lat,crs,address,text; cells may be empty."
            ),
        ],
        out: Annotated[Path, typer.Option(help="Policy file to write.")],
        pairs: Annotated[
            Path | None, typer.Option(help="CSV a,b: ids of two reports of one matter.")
        ] = None,
        flags: Annotated[
            Path | None,
            typer.Option(help="CSV report_id,is_duplicate: 1 for a repeat of an earlier report."),
        ] = None,
        time_zone: Annotated[
            str, typer.Option(help="Zone of times without an offset; default: the city's.")
        ] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Learn a merge policy, class by class where there is evidence; print its F1 on time not seen.

        Put into service by copying it to the city pack as merge.yaml.
        Example: quanyu train dedupe --reports reports.csv --pairs pairs.csv --out merge.yaml
        """
        past, truth, start = read(reports, pairs, flags, None, time_zone)
        if not out.parent.is_dir():
            raise QuanyuError(f"--out {out}: no folder {out.parent}; make it first")
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("classes", total=len({r.category for r in past.reports}))
            learnt = history.learn(past, truth, start, progress=lambda _: bar.advance(task))
        held, fit = (
            learnt.cross_validated,
            history.score(history.decide(learnt.policy, past.reports), past.reports, truth),
        )
        unit = "pairs" if pairs else "repeats"
        comment = (
            f"Learnt from {len(past.reports)} reports and {int(held.true)} {unit} of {reports.name}: "
            f"F1 {held.f1:.3f} on time not seen."
        )
        write_policy(out, learnt.policy, comment)
        if as_json:
            result = {
                "reports": len(past.reports),
                "true": held.true,
                "cross_validated": {
                    "precision": round(held.precision, 4),
                    "recall": round(held.recall, 4),
                    "f1": round(held.f1, 4),
                    "f1_of_blocks": [round(block.f1, 4) for block in learnt.blocks],
                },
                "f1": round(held.f1, 4),
                "fitted_f1": round(fit.f1, 4),
                "classes": len(learnt.policy.classes),
                "policy": str(out),
                "defects": len(past.defects),
            }
            typer.echo(json.dumps(result, ensure_ascii=False))
        else:
            typer.echo(f"{out}: {len(learnt.policy.classes)} classes with a rule of their own")
            typer.echo(
                f"{unit} on time not seen: precision {held.precision:.3f}, recall {held.recall:.3f}, "
                f"F1 {held.f1:.3f} (fitted {fit.f1:.3f})"
            )
