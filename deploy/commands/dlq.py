"""`quanyu dlq`: what could not be processed: look at it, bring it back, put it away."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy import dead_letters
from deploy.commands.event import Who, Why
from deploy.dead_letters import Filter, Handled
from schemas.city import load_city
from schemas.dead_letter import PREFIX
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.settings import load_settings

#: Letters of one command, unless it says more.
LIMIT = 1000
#: Refused letters that are printed.
SHOWN = 10

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
Topic = Annotated[str, typer.Argument(help="A topic, or its dead-letter topic; all when left out.")]
Reason = Annotated[str, typer.Option("--reason-code", help="The code of `dlq list`.")]
Channel = Annotated[str, typer.Option(help="Letters of this channel's raw reports.")]
Since = Annotated[str, typer.Option(help="Put aside at or after: ISO 8601, the city's zone.")]
Until = Annotated[str, typer.Option(help="Put aside before.")]
Pattern = Annotated[str, typer.Option(help="Regular expression in the value or the message.")]
Offset = Annotated[list[int] | None, typer.Option(help="Of the letter itself; repeat it.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def _filter(
    topic: str, channel: str, reason: str, since: str, until: str, pattern: str,
    offsets: list[int] | None = None,
) -> Filter:  # fmt: skip
    if offsets and not (topic or channel):
        raise QuanyuError(
            "--offset counts within one topic: name it, e.g. reports.raw.hotline12345"
        )
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise QuanyuError(f"--pattern {pattern[:60]!r}: {error}") from None
    return Filter(
        topic, channel, reason, instant("--since", since), instant("--until", until), compiled,
        frozenset(offsets or ()),
    )  # fmt: skip


def instant(option: str, text: str) -> int | None:
    """An instant of the command line in ms; without an offset it is the city's."""
    if not text:
        return None
    found = parse_instant(text, load_city(load_settings().city).time_zone)
    if found is None:
        raise QuanyuError(f"{option} {text[:40]!r}: write it as 2026-10-01T08:00")
    return found.ms


def register(app: typer.Typer) -> None:
    """Add `dlq list`, `dlq show`, `dlq replay` and `dlq drop`."""
    group = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be processed.")
    app.add_typer(group, name="dlq")

    @group.command("list")
    def list_(
        topic: Topic = "",
        channel: Channel = "",
        reason_code: Reason = "",
        since: Since = "",
        until: Until = "",
        pattern: Pattern = "",
        as_json: _Json = False,
    ) -> None:
        """Count the open dead letters of each topic by reason, and those that people replayed or dropped.

        Example: quanyu dlq list --since 2026-10-01T08:00
        """
        wanted = _filter(topic, channel, reason_code, since, until, pattern)
        counts = dead_letters.count(load_settings(), wanted)
        if as_json:
            document = {"topics": counts.open, "states": counts.states, "attempts": counts.attempts}
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        table = Table("topic", "reason", "records")
        for name, reasons in counts.open.items():
            for reason, number in reasons.items():
                table.add_row(name, reason, str(number))
        console = Console(highlight=False)
        console.print(table if counts.open else "no dead letters")
        for name, states in counts.states.items():
            done = ", ".join(f"{n} {state}" for state, n in states.items() if state != "open")
            again = sum(n for tries, n in counts.attempts.get(name, {}).items() if tries)
            if again:
                done = ", ".join(filter(None, [done, f"{again} refused again after a replay"]))
            if done:
                console.print(f"{name}: {done}", soft_wrap=True)

    @group.command("show")
    def show(
        topic: Topic = "",
        channel: Channel = "",
        reason_code: Reason = "",
        since: Since = "",
        until: Until = "",
        pattern: Pattern = "",
        offset: Offset = None,
        limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 10,
        as_json: _Json = False,
    ) -> None:
        """Show the latest dead letters: where from, why, what became of them, and their first bytes, masked.

        Example: quanyu dlq show reports.raw.hotline12345 --limit 3
        """
        wanted = _filter(topic, channel, reason_code, since, until, pattern, offset)
        letters = dead_letters.show(load_settings(), wanted, limit)
        if as_json:
            typer.echo(json.dumps({"letters": [asdict(le) for le in letters]}, ensure_ascii=False))
            return
        console = Console(highlight=False)
        for letter in letters:
            handled = f" by {letter.actor}, {_at(letter.handled_ms)}" if letter.actor else ""
            console.print(
                f"{letter.topic}[{letter.partition}]@{letter.offset}  {_at(letter.timestamp_ms)}  "
                f"{letter.size} bytes  {letter.state}{handled}",
                style="bold", markup=False, soft_wrap=True,
            )  # fmt: skip
            for name, value in letter.headers.items():
                console.print(f"  {name.removeprefix(PREFIX)}: {value}", markup=False)
            console.print(f"  {letter.preview}", markup=False, style="dim")
        if not letters:
            console.print("no dead letters")

    @group.command("replay")
    def replay(
        topic: Topic = "",
        channel: Channel = "",
        reason_code: Reason = "",
        since: Since = "",
        until: Until = "",
        pattern: Pattern = "",
        offset: Offset = None,
        limit: Limit = LIMIT,
        dry_run: DryRun = False,
        actor: Who = "operator",
        reason: Why = "",
        as_json: _Json = False,
    ) -> None:
        """Bring open letters' records back to where they lay, once their cause is mended.

        Each is replayed once; what is refused again is a new letter with one attempt more. Reports keep their
        ids: what was taken meanwhile is a duplicate. Exit 1 when some cannot be replayed.

        Example: quanyu dlq replay reports.raw.hotline12345 --reason-code unknown_schema --dry-run
        """
        wanted = _filter(topic, channel, reason_code, since, until, pattern, offset)
        _act("replay", wanted, limit, dry_run, actor, reason, as_json)

    @group.command("drop")
    def drop(
        topic: Topic = "",
        channel: Channel = "",
        reason_code: Reason = "",
        since: Since = "",
        until: Until = "",
        pattern: Pattern = "",
        offset: Offset = None,
        limit: Limit = LIMIT,
        everything: Annotated[
            bool, typer.Option("--everything", help="Really every open letter of every topic.")
        ] = False,
        dry_run: DryRun = False,
        actor: Who = "operator",
        reason: Why = "",
        as_json: _Json = False,
    ) -> None:
        """Say of open letters that nothing more is to be done; they stay in the listing as dropped.

        Example: quanyu dlq drop reports.raw.photo_app --pattern '^not avro' --reason "a scanner's noise"
        """
        wanted = _filter(topic, channel, reason_code, since, until, pattern, offset)
        if not wanted.narrow and not everything:
            raise QuanyuError(
                "this would drop letters of every topic: name a topic or another filter, or say --everything"
            )
        _act("drop", wanted, limit, dry_run, actor, reason, as_json)


def _act(
    verb: str, wanted: Filter, limit: int, dry_run: bool, actor: str, why: str, as_json: bool
) -> None:
    console = Console(stderr=True, highlight=False)
    done = dead_letters.act(
        load_settings(), verb, wanted, limit=limit, actor=actor, why=why, dry_run=dry_run,
        say=console.print,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(done), ensure_ascii=False))
    else:
        _print(done)
    if done.refused:
        raise typer.Exit(1)


def _print(done: Handled) -> None:
    would = "would be " if done.dry_run else ""
    for topic, number in done.letters.items():
        typer.echo(f"{topic}: {number} letters {would}{dead_letters.VERBS[done.action]}")
    if not done.letters:
        typer.echo("no open letter is meant")
    if done.action == "replay":
        typer.echo(f"{done.records} records {would}sent")
    for refused in done.refused[:SHOWN]:
        typer.echo(f"{refused.topic}@{refused.offset}: not replayed: {refused.why}")
    if len(done.refused) > SHOWN:
        typer.echo(f"and {len(done.refused) - SHOWN} more that cannot be replayed")
    if done.left:
        typer.echo(f"{done.left} more are meant: repeat the command, or raise --limit")


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(" ", "seconds")
