"""`quanyu city build | check`: a city pack's generated grids, and whether a pack is sound."""

import json
from pathlib import Path
from typing import Annotated

import typer

from schemas.settings import load_settings

Name = Annotated[
    str | None,
    typer.Argument(help="A pack below deploy/cities, or a path; default: QUANYU_CITY."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the `city` group."""
    group = typer.Typer(help="City packs: build their grids, check them.", no_args_is_help=True)
    app.add_typer(group, name="city")

    @group.command("build")
    def build(
        name: Name = None,
        out: Annotated[
            Path | None, typer.Option(help="Generate into this folder, not into the cache.")
        ] = None,
        geojson: Annotated[
            Path | None, typer.Option(help="Write the generated layers here as GeoJSON too.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Generate the layers that the pack does not ship; nothing to do when they are there.

        Example: quanyu city build path/to/pack
        """
        from deploy import city_build
        from schemas.city import load_city

        city = load_city(name or load_settings().city)
        built = city_build.build(city, out, lambda line: typer.echo(line, err=True))
        exported = city_build.export(city, built, geojson) if geojson else []
        if as_json:
            result = {
                "city": city.code,
                "counts": built.counts,
                "seconds": round(built.seconds, 1),
                "digest": built.digest,
                "folder": str(built.folder),
                "cached": built.seconds == 0.0,
                "geojson": [str(path) for path in exported],
            }
            typer.echo(json.dumps(result, ensure_ascii=False))
            return
        for level, count in built.counts.items():
            typer.echo(f"{level:<10} {count:>8,}")
        took = f"in {built.seconds:.1f} s" if built.seconds else "before; nothing to do"
        typer.echo(f"built {took}: {built.folder} ({built.digest[:16]})")

    @group.command("check")
    def check(
        name: Name = None,
        points: Annotated[
            int, typer.Option(min=0, max=10_000_000, help="Random points tried on every level.")
        ] = 2_000,
        seed: Annotated[int, typer.Option(min=0, help="Of the random points.")] = 1,
        as_json: AsJson = False,
    ) -> None:
        """Hold a pack's files and all its grids against each other; exit 1 when anything is wrong.

        Grids that the pack generates are built first. Example: quanyu city check path/to/pack
        """
        from deploy.city_check import check_pack

        pack = name or load_settings().city
        checked = check_pack(pack, points, seed, lambda line: typer.echo(line, err=True))
        if as_json:
            typer.echo(json.dumps(checked.as_dict(), ensure_ascii=False))
        else:
            for finding in checked.findings:
                typer.echo(str(finding))
            grids = ", ".join(f"{count:,} {level}" for level, count in checked.counts.items())
            number = len(checked.findings)
            verdict = f"{number} to mend" if number else "the pack holds"
            tried = f"; {points:,} points on every level" if grids else ""
            typer.echo(f"{pack}: {verdict}: {grids or 'no grids read'}{tried}")
        if checked.findings:
            raise typer.Exit(1)
