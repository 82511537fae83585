"""``quanyu``: the command line. Each area's commands live in ``deploy/commands/<area>.py``."""

import importlib
import logging
import os
import sys

import typer

from schemas.errors import QuanyuError

AREAS = (
    *(
        "stack",
        "doctor",
        "config",
        "city",
        "schemas",
        "topics",
        "tables",
        "backup",
        "channel",
        "replay",
        "simulate",
        "audit",
        "dlq",
        "people",
        "keys",
        "erase",
        "event",
        "review",
        "order",
        "duty",
        "webhooks",
        "trace",
        "reprocess",
        "metrics",
    ),
    *("evaluate", "report", "train", "bench", "faults", "demo"),
)

#: Commands that are not called as their area.
ELSEWHERE = {"up": "stack", "down": "stack", "status": "stack", "restore": "backup"}
#: It ran and the answer is bad / it could not run.
EXIT_BAD, EXIT_UNABLE = 1, 2
#: Packages whose errors mean that Kafka or ClickHouse does not answer or refused.
UNREACHABLE = {"cimpl", "confluent_kafka", "clickhouse_connect", "httpx", "urllib3"}


def areas(command: str) -> tuple[str, ...]:
    """The area of a command; all for what is none, as only they together can tell: that takes a second."""
    area = ELSEWHERE.get(command, command)
    return (area,) if area in AREAS and command != "stack" else AREAS


def create_app(command: str = "") -> typer.Typer:
    """The command line with every area's commands, or with those of one command's area."""
    app = typer.Typer(
        name="quanyu",
        help="全域: every report of a city into one picture and one dispatch.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # With one command alone, typer would take its name for an argument.
    app.callback()(lambda: None)
    for area in areas(command):
        importlib.import_module(f"deploy.commands.{area}").register(app)
    return app


def main() -> None:
    """Run; a user's mistake ends in one sentence and exit 2, never in a traceback."""
    # What the drivers have to say of an error is in the error, which we print.
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    try:
        create_app(*sys.argv[1:2])()
    except QuanyuError as error:
        print(f"quanyu: {error}", file=sys.stderr)
        sys.exit(EXIT_UNABLE)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BAD)
    except Exception as error:
        package = type(error).__module__.split(".")[0]
        if package not in UNREACHABLE and not isinstance(error, ConnectionError):
            raise
        print(
            f"quanyu: Kafka or ClickHouse did not do what was asked: {error}; see quanyu status",
            file=sys.stderr,
        )
        sys.exit(EXIT_UNABLE)


if __name__ == "__main__":
    main()
