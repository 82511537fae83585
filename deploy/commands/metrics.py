"""`quanyu metrics`: every metric with type, labels, unit and meaning."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `metrics`."""

    @app.command("metrics")
    def metrics(
        write: Annotated[
            bool, typer.Option("--write", help="Write METRICS.md and the dashboards of this tree.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Print the page of every metric, as rules, dashboards and the scrape know them.

        Example: quanyu metrics
        """
        from deploy import dashboards
        from deploy.commands.source_tree import ROOT
        from schemas.metrics import REGISTRY, page

        if write:
            target = ROOT / "deploy" / "prometheus" / "METRICS.md"
            for path, text in {target: page(), **dashboards.written()}.items():
                path.write_text(text, encoding="utf-8")
        if as_json:
            found = [{**asdict(metric), "unit": metric.unit} for metric in REGISTRY.values()]
            typer.echo(json.dumps({"metrics": found}, ensure_ascii=False))
        elif write:
            typer.echo(f"{target}: {len(REGISTRY)} metrics")
        else:
            typer.echo(page(), nl=False)
