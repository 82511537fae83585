"""`quanyu erase`: a reporter's personal data, on request; and what is older than it may stay."""

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from deploy import erase as erasing
from deploy.commands.event import Who
from deploy.desk import Unavailable
from schemas.errors import QuanyuError
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `erase`."""

    @app.command("erase")
    def erase(
        reporter: Annotated[
            str,
            typer.Option(help="Telephone number, account or keyed hash; - reads it from stdin."),
        ] = "",
        again: Annotated[
            bool,
            typer.Option("--again", help="Once more, whoever was erased in the last 100 days."),
        ] = False,
        expired: Annotated[
            bool, typer.Option("--expired", help="What is older than topics.yaml lets it stay.")
        ] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would be erased, and erase nothing.")
        ] = False,
        actor: Who = "operator",
        as_json: _Json = False,
    ) -> None:
        """Erase a reporter's words, address, photos and hash at once; say what ages out, and when.

        The matter stays with its class, place and times: no number changes. Run it with --again every day,
        since merge writes the title of an event that is still open anew.

        Example: quanyu erase --reporter - --dry-run
        """
        if sum((bool(reporter), again, expired)) != 1:
            raise QuanyuError("name what to erase: --reporter NUMBER, --again or --expired")
        settings = load_settings()
        try:
            if reporter:
                text = sys.stdin.readline() if reporter == "-" else reporter
                hashed = erasing.hash_of(settings, text)
                done = [erasing.erase(settings, hashed, dry_run=dry_run, actor=actor)]
            elif again:
                done = erasing.again(settings, dry_run=dry_run)
            else:
                done = [erasing.expired(settings, dry_run=dry_run)]
        except Unavailable as error:
            raise QuanyuError(
                f"erased, but not in the people's log: {error}; run the same command again"
            ) from None
        if as_json:
            typer.echo(json.dumps({"erased": [asdict(one) for one in done]}, ensure_ascii=False))
            return
        verb = "would be erased" if dry_run else "erased"
        for one in done:
            typer.echo(
                f"{one.reporter}: {verb}: {one.reports} reports, {one.events} events, "
                f"{one.photos} photos"
            )
        if not done:
            typer.echo("nobody was erased lately")
        for left in done[0].ageing if done else []:
            day = time.strftime("%Y-%m-%d", time.localtime(left.gone_by / 1000))
            typer.echo(f"ages out of {left.topic} ({left.personal}) by {day}")
