"""`quanyu bench`: measure this machine. The measurements live beside the tests of the source tree."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.source_tree import run_module

_Record = Annotated[
    bool, typer.Option("--record", help="Write the table of tests/bench/README.md again.")
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `bench` and what it measures by itself."""
    group = typer.Typer(help="Measure this machine.")
    app.add_typer(group, name="bench")

    @group.callback(invoke_without_command=True)
    def bench(
        context: typer.Context,
        reports: Annotated[
            int, typer.Option(min=1000, help="Reports of the end-to-end run.")
        ] = 150_000,
        as_json: _Json = False,
    ) -> None:
        """End-to-end speed, cost of each step, and the ratio to per-event Faust, in one run.

        Starts stacks of its own. Example: quanyu bench --reports 100000
        """
        if context.invoked_subcommand is None:
            run_module("tests.bench", ["--reports", str(reports), *(["--json"] if as_json else [])])

    @group.command("year")
    def year(
        reports: Annotated[
            int, typer.Option(min=20_000, help="Reports of the year; 36,000,000 is a whole city's.")
        ] = 36_000_000,
        directory: Annotated[
            Path | None,
            typer.Option(help="Keep the year here and measure it again; default: a temporary one."),
        ] = None,
        as_json: _Json = False,
    ) -> None:
        """Every named query on a year of a city: cold, warm, and with readers while reports come.

        Fills an engine of its own, about 800 bytes a report. Example: quanyu bench year --reports 1000000
        """
        where = [] if directory is None else ["--directory", str(directory.resolve())]
        run_module(
            "tests.bench.year",
            ["--reports", str(reports), *where, *(["--json"] if as_json else [])],
        )

    @group.command("peers")
    def peers(
        reports: Annotated[int, typer.Option(min=1000, help="Reports of the full work.")] = 30_000,
        only: Annotated[
            list[str] | None, typer.Option(help="Only this engine; may be repeated.")
        ] = None,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """The worker beside other engines on the same steps, input and check of the answer.

        Fetches the peers' packages into the cache once. Example: quanyu bench peers --reports 10000
        """
        named = [part for name in only or [] for part in ("--only", name)]
        run_module(
            "tests.bench.peers", ["--reports", str(reports), *named, *_flags(record, as_json)]
        )

    @group.command("sink")
    def sink(
        rows: Annotated[int, typer.Option(min=10_000, help="Rows to be sunk.")] = 400_000,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """Rows a second of the sink and of a naive loop, each killed on its way, beside bulk inserts.

        Example: quanyu bench sink --rows 200000
        """
        run_module("tests.bench.sink", ["--rows", str(rows), *_flags(record, as_json)])

    @group.command("latency")
    def latency(
        rate: Annotated[
            list[int] | None,
            typer.Option(help="Reports a second; may be repeated; default 100, 500, 2000, 5000."),
        ] = None,
        seconds: Annotated[
            float, typer.Option(min=15.0, help="Of each rate; ten of them warm it up.")
        ] = 25.0,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """From a report's receipt to its order and to its being visible, at steady rates.

        Example: quanyu bench latency --rate 500 --seconds 40
        """
        rates = [part for one in rate or [] for part in ("--rate", str(one))]
        run_module(
            "tests.bench.latency", ["--seconds", str(seconds), *rates, *_flags(record, as_json)]
        )

    @group.command("growth")
    def growth(
        reports: Annotated[int, typer.Option(min=10_000, help="Reports of each run.")] = 20_000,
        only: Annotated[
            list[str] | None,
            typer.Option(help="open, rebuild, start; may be repeated."),
        ] = None,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """Cost amid many open events, rebuild of a worker's state, start of a stack.

        Example: quanyu bench growth --only open
        """
        named = [part for name in only or [] for part in ("--only", name)]
        run_module(
            "tests.bench.growth", ["--reports", str(reports), *named, *_flags(record, as_json)]
        )

    @group.command("scale")
    def scale(
        reports: Annotated[int, typer.Option(min=5_000, help="Reports of each run.")] = 20_000,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """Cost by number of partitions, and what more workers bring.

        Example: quanyu bench scale --reports 10000
        """
        run_module("tests.bench.scale", ["--reports", str(reports), *_flags(record, as_json)])

    @group.command("gate")
    def gate(
        base: Annotated[str, typer.Option(help="A commit or tag; default: the last tag.")] = "",
        reports: Annotated[int, typer.Option(min=2000, help="Reports of each turn.")] = 20_000,
        record: _Record = False,
        as_json: _Json = False,
    ) -> None:
        """CPU seconds of the pure steps against another commit; exit 1 at 1.25 times the base's.

        Example: quanyu bench gate --base v1.0
        """
        given = ["--base", base] if base else []
        run_module(
            "tests.bench.gate", ["--reports", str(reports), *given, *_flags(record, as_json)]
        )


def _flags(record: bool, as_json: bool) -> list[str]:
    return [*(["--record"] if record else []), *(["--json"] if as_json else [])]
