"""`quanyu reprocess`: a past time decided anew, beside what was decided then."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.dlq import instant
from deploy.commands.event import Json, Who
from deploy.local.home import read_json
from deploy.reprocess import Comparison, reprocess, switch, under, write_rows
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.merge_policy import read_policy
from schemas.settings import Settings, load_settings
from streams.renew import PACK_FILE, version

#: Which actions each word of --switch stands for.
SWITCHES = {
    "reviews": {"answer"},
    "events": {"merge", "split"},
    "all": {"answer", "merge", "split"},
}
#: Kinds of change that are printed of each.
SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add `reprocess`."""

    @app.command("reprocess")
    def reprocess_(
        begin: Annotated[str, typer.Option("--from", help="ISO 8601; the city's zone.")],
        end: Annotated[str, typer.Option("--to", help="Exclusive.")],
        model: Annotated[Path | None, typer.Option(help="Of quanyu train classify.")] = None,
        threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Of the model.")] = None,
        policy: Annotated[Path | None, typer.Option(help="A merge.yaml.")] = None,
        city: Annotated[str, typer.Option(help="Another pack, by name or path.")] = "",
        out: Annotated[Path | None, typer.Option(help="CSV of what changed.")] = None,
        switch_: Annotated[
            str, typer.Option("--switch", help=f"Bring it over: {' | '.join(SWITCHES)}.")
        ] = "",
        limit: Annotated[int, typer.Option(min=1, help="Actions of --switch at most.")] = 1000,
        actor: Who = "operator",
        as_json: Json = False,
    ) -> None:
        """Decide the raw reports of a past time anew and compare with what was decided then.

        Reads Kafka and ClickHouse and writes nothing, but with --switch: then it asks the agents for what they
        have an action for (answers to reviews; merges and splits of whole events, which withdraw and issue
        orders), and they decide by the pack that is in service. So put a model or policy there first.

        Example: quanyu reprocess --from 2026-10-01 --to 2026-10-02 --model new.model --out changed.csv
        """
        settings = load_settings()
        if switch_:
            if switch_ not in SWITCHES:
                raise QuanyuError(f"--switch {switch_!r}: use one of {', '.join(SWITCHES)}")
            if model or policy or city or threshold is not None:
                raise QuanyuError(
                    "--switch asks the running agents, which decide by the pack in service: name the model in "
                    "its city.yaml, or copy the policy to its merge.yaml, and repeat without these options"
                )
            taken_up(settings)
        at = instant("--from", begin), instant("--to", end)
        if at[0] is None or at[1] is None:
            raise QuanyuError("--from and --to: write instants such as 2026-10-01T08:00")
        how = under(
            load_city(city or settings.city),
            model,
            threshold,
            read_policy(policy) if policy else None,
        )
        stderr = Console(stderr=True, highlight=False)
        with stderr.status("reading") as status:
            found = reprocess(settings, at[0], at[1], how, status.update)
            if out is not None:
                write_rows(out, found.rows)
            done = {}
            if switch_:
                wanted = [a for a in found.actions if a.verb in SWITCHES[switch_]]
                done = switch(settings, wanted, actor, limit, status.update)
        if as_json:
            typer.echo(json.dumps({**found.as_dict(), "switched": done}, ensure_ascii=False))
        else:
            _print(found, done, Console(highlight=False))
            if out is not None:
                typer.echo(f"{out}: {len(found.rows)} rows")


def taken_up(settings: Settings) -> None:
    """Refuse while the worker of this home decides by another pack than the one that is compared with."""
    said = read_json(settings.home / PACK_FILE)
    if said and said.get("version") != version(load_city(settings.city)):
        why = f": {said['refused']}" if said.get("refused") else ""
        raise QuanyuError(
            f"--switch: the worker has not taken up {settings.city} as it is now{why}; see quanyu status"
        )


def _print(found: Comparison, done: dict[str, int], console: Console) -> None:
    table = Table("changed", "raw reports", "most often")
    examples = {"outcome": found.outcomes, "class": found.classes}
    for kind, number in found.changed.items():
        some = [f"{what} {n}" for what, n in list(examples.get(kind, {}).items())[:SHOWN]]
        table.add_row(kind, str(number), "\n".join(some))
    console.print(table if found.changed else "nothing would be decided otherwise")
    console.print(
        f"{found.compared} compared, {len(found.rows)} changed; {found.events_then} events then, "
        f"{found.events_now} now; {found.by_person} left as a person decided; {found.seconds} s"
    )
    if found.not_kept:
        console.print(f"{found.not_kept} of that time are no longer in Kafka", style="yellow")
    if found.not_decided_then:
        console.print(f"{found.not_decided_then} have no outcome yet", style="yellow")
    if found.actions and not done:
        asked = found.as_dict()["actions"]
        console.print(f"--switch would ask for: {', '.join(f'{n} {v}' for v, n in asked.items())}")
    for what, number in done.items():
        console.print(f"switched: {number} {what}")
