"""`quanyu evaluate locate` and `quanyu evaluate address`: where things are, against what is known."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.evaluate_places import measure_addresses, measure_points
from schemas.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def add(group: typer.Typer) -> None:
    """Add `locate` and `address` to the group `evaluate`."""

    @group.command("locate")
    def locate(
        points: Annotated[Path, typer.Option(help="CSV: id,lon,lat,crs,expected.")],
        areas: Annotated[Path, typer.Option(help="GeoJSON FeatureCollection of polygons, WGS-84.")],
        name: Annotated[str, typer.Option(help="Property that names an area.")],
        as_json: AsJson = False,
    ) -> None:
        """Put points into areas with the code that the agent runs; agreement with what is expected.

        border: those within a metre of a border, where only a city's own habit tells the side.
        Example: quanyu evaluate locate --points points.csv --areas wards.geojson --name ward --json
        """
        _say(measure_points(points, areas, name), as_json)

    @group.command("address")
    def address(
        queries: Annotated[
            Path, typer.Option(help="CSV: text,district,street; what is expected may be empty.")
        ],
        as_json: AsJson = False,
    ) -> None:
        """Find the district and street of addresses by the names of the city in use.

        Shares are of the queries that expect a district or a street; review: those without a street.
        Example: quanyu evaluate address --queries addresses.csv --json
        """
        _say(measure_addresses(queries, load_settings().city), as_json)


def _say(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for key, value in result.items():
        console.print(f"{key}: {value}")
