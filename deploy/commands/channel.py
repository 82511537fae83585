"""`quanyu channel`: draft a channel from a sample, see what rows become, list and document the channels."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import QuanyuError
from schemas.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]

#: A fixture is read by people and kept for ever.
FIXTURE_LIMIT = 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the `channel` group."""
    group = typer.Typer(no_args_is_help=True, help="Channels: one YAML each.")
    app.add_typer(group, name="channel")
    group.command("new")(new)
    group.command("test")(check)
    group.command("list")(list_)
    group.command("doc")(doc)


def new(
    name: Annotated[str, typer.Argument(help="Small letters, digits and underscores.")],
    sample: Annotated[
        Path, typer.Option("--from", help="CSV, XLSX, JSON lines or GeoJSON as the channel sends.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for both files; else connectors/channels and tests/fixtures."),
    ] = None,
    title: Annotated[str, typer.Option(help="Name on the screen; else NAME.")] = "",
    zone: Annotated[str, typer.Option(help="IANA zone of times without an offset.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write the first draft of a channel from a sample, and keep the sample as its fixture.

    Example: quanyu channel new riverside --from sample.csv --title 河道巡查
    """
    from connectors.draft import draft
    from connectors.files import read_entries
    from deploy.commands.source_tree import ROOT
    from schemas.channels import CHANNELS_DIR, ChannelSpec, read_channel
    from schemas.instants import known_zone

    zone = zone or str(ChannelSpec.model_fields["time_zone"].default)
    try:
        known_zone(zone)
    except ValueError as error:
        raise QuanyuError(f"--zone: {error}") from None
    fixtures = ROOT / "tests" / "fixtures" / "channels"
    if out is None and not fixtures.is_dir():
        raise QuanyuError("this is no checkout of the source; name a folder with --out")
    spec = (out or CHANNELS_DIR) / f"{name}.yaml"
    fixture = (out or fixtures) / f"{name}{sample.suffix.lower()}"
    for path in (spec, fixture):
        if path.exists():
            raise QuanyuError(
                f"{path} exists and is not overwritten; remove it or choose another name"
            )
    entries = read_entries(sample)
    if sample.stat().st_size > FIXTURE_LIMIT:
        raise QuanyuError(
            f"{sample}: {sample.stat().st_size >> 20} MB; a fixture is at most 1 MB: cut it to some rows "
            "that show what comes"
        )
    text = draft(name, title or name, sample.name, entries, zone)
    for path in (spec, fixture):
        path.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(text, encoding="utf-8")
    try:
        read_channel(spec)
    except QuanyuError:
        spec.unlink()  # a name that is none: nothing is left behind
        raise
    shutil.copyfile(sample, fixture)
    todo = [line.partition("TODO")[2].strip() for line in text.splitlines() if "TODO" in line][1:]
    if as_json:
        typer.echo(
            json.dumps(
                {"spec": str(spec), "fixture": str(fixture), "todo": todo}, ensure_ascii=False
            )
        )
        return
    typer.echo(f"{spec}\n{fixture}")
    for line in todo:
        typer.echo(f"to decide: {line}")
    typer.echo(
        "The fixture holds the sample as it is: take names and numbers of people out before you commit it.\n"
        f"Next: quanyu channel test {name if out is None else spec} {fixture}"
        + ("; quanyu channel doc" if out is None else "")
    )


def check(
    channel: Annotated[str, typer.Argument(help="A channel, or the YAML file of one.")],
    file: Annotated[Path, typer.Argument(help="A file of any kind that quanyu replay takes.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what each row of a file would become. Needs no server. Exit 1 when one would be rejected.

    Example: quanyu channel test hotline12345 calls.csv --limit 20
    """
    from itertools import islice

    from connectors.files import read_entries
    from deploy.channels import counts, judge
    from schemas.channels import load_channel, read_channel
    from schemas.city import load_city

    spec = read_channel(Path(channel)) if channel.endswith(".yaml") else load_channel(channel)
    city = load_city(load_settings().city)
    rows = []
    for row in judge(spec, islice(read_entries(file), limit), city):
        rows.append(row)
        if as_json:
            continue
        place = " ".join(filter(None, (city.district_name(row.district), row.grid)))
        why = f" ({row.reason}{': ' if row.detail else ''}{row.detail})" if row.reason else ""
        typer.echo(
            f"{row.number:>6}  {row.outcome}{why}  {row.class_code} {row.class_name}  {place}".rstrip()
        )
        for name, value in row.raw.items():
            typer.echo(f"        {name}: {' '.join(str(value).split())[:200]}")
        for defect in row.defects:
            typer.echo(f"        defect: {defect}")
    found = counts(rows)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "channel": spec.name,
                    "file": str(file),
                    "outcomes": found,
                    "rows": [asdict(row) for row in rows],
                },
                ensure_ascii=False,
            )
        )
    else:
        for outcome, reasons in found.items():
            why = ", ".join(f"{reason} {n}" for reason, n in reasons.items() if reason)
            typer.echo(f"{sum(reasons.values())} {outcome}{f': {why}' if why else ''}")
        typer.echo(f"{len(rows)} rows of {file.name} as {spec.name}")
    if "rejected" in found:
        raise typer.Exit(1)


def list_(as_json: AsJson = False) -> None:
    """List the channels, how each arrives, and whether that is in service here.

    Example: quanyu channel list
    """
    from schemas.channels import load_channels
    from schemas.sources import load_sources

    sources = load_sources(load_settings())
    found = {
        name: {
            "title": spec.title,
            "kind": spec.kind,
            # Pushing needs no address of ours: the gateway serves it.
            "transports": {
                transport: transport == "http" or transport in sources.get(name, {})
                for transport in spec.transports.names
            },
        }
        for name, spec in load_channels().items()
    }
    if as_json:
        typer.echo(json.dumps({"channels": found}, ensure_ascii=False))
        return
    table = Table("channel", "title", "kind", "in service", "no source here")
    for name, spec in load_channels().items():
        arrives = found[name]["transports"]
        assert isinstance(arrives, dict)
        table.add_row(
            name,
            spec.title,
            spec.kind,
            ", ".join(t for t, on in arrives.items() if on),
            ", ".join(t for t, on in arrives.items() if not on),
        )
    Console().print(table)


def doc() -> None:
    """Write connectors/channels/README.md from the channels and their model.

    Example: quanyu channel doc
    """
    from deploy.channels import PAGE, page

    PAGE.write_text(page(), encoding="utf-8")
    typer.echo(str(PAGE))
