"""``python -m tests.bench``: every figure in one run, so that ratios mean something."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from deploy import city_build
from schemas.city import load_city
from schemas.settings import Settings
from tests.bench import (
    channels,
    decisions,
    dispatch,
    end_to_end,
    latency,
    life_cycle,
    places,
    suggest,
    texts,
    transport,
)
from tests.bench.machine import machine


def main() -> None:
    """Run the benches; progress on stderr, one table or one JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="quanyu bench")
    parser.add_argument("--reports", type=int, default=150_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    progress = Console(stderr=True, highlight=False)
    city_build.build(load_city(Settings().city), say=progress.print)
    progress.print("transport with an empty agent …")
    moved = transport.run()
    progress.print(f"{moved}\nend to end, {arguments.reports} reports …")
    whole = end_to_end.run(arguments.reports)
    progress.print(f"{whole}\nfrom receipt to order at 500/s …")
    waited = latency.run()
    progress.print("each channel transport into Kafka …")
    carried = channels.run()
    progress.print("the steps without broker and engine …")
    pure = decisions.run()
    located = places.run()
    read = texts.run()
    sent = dispatch.run()
    sent |= life_cycle.run()
    progress.print("suggestions …")
    suggested = suggest.run()
    result = {"machine": machine(), "transport": moved, "end_to_end": whole, "decisions": pure}
    result |= {"channels": carried, "places": located, "texts": read, "suggest": suggested}
    result["dispatch"] = sent
    result["latency"] = waited
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    table = Table("figure", "value", title=str(result["machine"]))
    for name, value in moved.items():
        table.add_row(f"transport: {name}", f"{value:,}")
    for name, value in carried.items():
        table.add_row(f"channel transport: {name}, reports/s into Kafka", f"{value:,}")
    table.add_row(
        "end to end: reports/s, raw topic to visible", f"{whole['pipeline']['reports_per_s']:,}"
    )
    table.add_row(
        "end to end: per-event Faust reports/s", f"{whole['per_event_faust']['reports_per_s']:,}"
    )
    table.add_row("end to end: ratio", str(whole["ratio"]))
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        table.add_row(
            f"receipt to order at {waited['rate']}/s: {name.removesuffix('_ms')}",
            f"{waited[name]:,} ms",
        )
    for part in ("stage_us_per_report", "insert_us_per_report", "cpu_us_per_report"):
        for name, value in whole["pipeline"][part].items():
            table.add_row(f"{part.removesuffix('_us_per_report')}: {name}", f"{value} µs/report")
    for name, value in pure["us_per_report"].items():
        table.add_row(f"pure: {name}", f"{value} µs/report")
    table.add_row("pure: reports/s per core", f"{pure['reports_per_s_per_core']:,}")
    for name, value in located.items():
        table.add_row(f"pure: {name.replace('_per_s', '/s')} located", f"{value:,}")
    for name, value in read.items():
        table.add_row(f"pure: {name.replace('_per_s', '/s')}", f"{value:,}")
    for name, value in sent.items():
        table.add_row(f"pure: {name.replace('_per_s', '/s')}", f"{value:,}")
    for name, value in suggested.items():
        table.add_row(f"suggest: {name}", f"{value:,}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
