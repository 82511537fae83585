"""How good a decision can be on given labels: which errors are the labels' own, what no report says.

``python -m tests.bench.ceiling``, on the outside data beside the project; skipped where it is not there.
Classes: the service's classifier and two of other families judge texts that none has seen. Where all three
say the same against the label, the label is in doubt (``--show`` prints such texts to be read). Same matter: a
standard error over places, as a place's pairs come together, and how many pairs that a rule cannot tell apart
the city's clerks linked in one case and not in another.
"""

import argparse
import csv
import json
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.sparse import csr_array
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

from deploy import train_classify as classify
from schemas.merge_policy import MergePolicy
from streams.intake.features import features
from streams.intake.text_model import softmax, weigh
from streams.merge import history
from streams.merge.likeness import metres

DATA = Path(__file__).parents[3] / "shared" / "data"
Ints = npt.NDArray[np.int64]
#: Neighbours that vote; smoothing of naive Bayes; draws of a standard error.
NEIGHBOURS, SMOOTH, DRAWS = 15, 0.02, 400
SEEDS = range(5)
#: Edges of what a rule can tell apart, with so few pairs: metres and hours.
DISTANCES, DELAYS = (1.0, 30.0, 100.0), (1.0, 2.0, 4.0, 8.0, 12.0, 24.0)
#: As far apart the clerks link (the largest of their pairs is 199 m).
REACH_M = 100.0
ZONE = "America/Chicago"
#: People name a community or village, not its committee.
OFFICE = re.compile("(居民委员会|村民委员会|居委会|村委会|委会)+$")
#: The contest's departments for the taxonomy of Zhengzhou, by main class and where a class differs from it.
FIRST_DAY = {
    **dict.fromkeys(("01", "02", "03", "04", "05", "21", "22", "23", "24", "25"), "城乡建设"),
    **dict.fromkeys(("0505", "0509", "2104", "2406", "2407"), "交通运输"),
    **dict.fromkeys(("26", "0301", "0302", "0508"), "环境保护"),
    **dict.fromkeys(("0512", "2108", "2803"), "教育文体"),
    **dict.fromkeys(("2801", "2802", "2805"), "劳动和社会保障"),
    **{"27": "商贸旅游", "2804": "卫生计生"},
}


def write(folder: Path) -> None:
    """The outside data as ``quanyu train`` and ``evaluate`` read them."""
    text = (DATA / "zh_complaints" / "labelled_train.csv").read_text(encoding="utf-8-sig")
    (folder / "labelled.csv").write_text(text.replace("label_l1", "label", 1), encoding="utf-8")
    _write(folder / "first_day.csv", ("code", "label"), FIRST_DAY.items())
    chicago = DATA / "chicago311"
    columns = ("report_id", "occurred_at", "category", "lon", "lat", "crs", "address", "text")
    told = ("sr_number", "created_date", "sr_type", "longitude", "latitude")
    rows = _read(chicago / "field_requests_1430.csv")
    reports = ([*map(row.get, told), "WGS84", row["street_address"], ""] for row in rows)
    _write(folder / "reports.csv", columns, reports)
    linked = _read(chicago / "truth_pairs_156.csv")
    _write(folder / "pairs.csv", ("a", "b"), ((row["sr_a"], row["sr_b"]) for row in linked))
    every = _read(chicago / "chicago_311_data.csv")
    points = (
        (row["sr_number"], row["longitude"], row["latitude"], "WGS84", row["ward"]) for row in every
    )
    _write(folder / "points.csv", ("id", "lon", "lat", "crs", "expected"), points)
    names = [r for r in _read(DATA / "zhengzhou" / "zz_jionlp_location.csv") if r["village"]]
    addresses = (
        (f"{r['county']}{OFFICE.sub('', r['village'])}{n % 97 + 1}号", r["county"], r["town"])
        for n, r in enumerate(names)
    )
    _write(folder / "addresses.csv", ("text", "district", "street"), addresses)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(header)
        out.writerows(rows)


# ---- classes


def classes(folder: Path, show: int = 0) -> dict[str, Any]:
    """Errors of the classifier, those in which two others agree with it, and what more labels would bring."""
    data = classify.read_labelled(folder / "labelled.csv")
    first_day = classify.by_keywords(data, "zhengzhou", folder / "first_day.csv")
    of_words = classify.measure(data, *first_day, 0.0)
    names = sorted(set(data.labels))
    labels = np.array([names.index(label) for label in data.labels])
    counted = features(data.texts)
    groups = classify._groups(data.texts)
    folds = classify._folds(labels, groups, 0)
    machine, shares = _machine(counted, labels, len(names), folds)
    bayes, near = _others(counted, labels, len(names), folds)
    wrong = machine != labels
    against = wrong & (bayes == machine) & (near == machine)
    mended = np.where(against, machine, labels)
    confused = Counter(
        (names[int(label)], names[int(said)])
        for label, said in zip(labels[wrong], machine[wrong], strict=True)
    )
    if show:
        chosen = np.random.default_rng(0).permutation(np.flatnonzero(against))[:show]
        for row in sorted(chosen):
            text = data.texts[row][:160]
            print(f"{names[labels[row]]} → {names[machine[row]]}: {text}", file=sys.stderr)
    seeds = [
        _f1(labels, _machine(counted, labels, len(names), classify._folds(labels, groups, seed))[0])
        for seed in SEEDS
    ]
    draws = np.random.default_rng(0).integers(0, len(labels), (DRAWS, len(labels)))
    return {
        "texts": len(labels),
        "macro_f1_of_seeds": [round(f1, 4) for f1 in seeds],
        "macro_f1": round(float(np.mean(seeds)), 4),
        "standard_error_of_texts": round(
            float(np.std([_f1(labels[d], machine[d]) for d in draws])), 4
        ),
        "macro_f1_of_naive_bayes": round(_f1(labels, bayes), 4),
        "macro_f1_of_neighbours": round(_f1(labels, near), 4),
        "macro_f1_on_the_first_day": of_words["macro_f1"],
        "errors": int(wrong.sum()),
        "errors_in_which_all_three_agree": int(against.sum()),
        "macro_f1_were_these_labels_mistakes": round(_f1(mended, machine), 4),
        "right_where_unsure": round(float((~wrong)[shares < 0.6].mean()), 4),
        "unsure_texts": int((shares < 0.6).sum()),
        "confused": {f"{label} → {said}": n for (label, said), n in confused.most_common(12)},
        "macro_f1_by_share_of_labels": _by_share(counted, labels, len(names), folds),
    }


def _f1(labels: Ints, said: Ints) -> float:
    return float(f1_score(labels, said, average="macro"))


def _machine(
    counted: csr_array, labels: Ints, width: int, folds: Sequence[tuple[Ints, Ints]]
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """What ``quanyu train classify`` says of texts that it has not seen, and how sure it is."""
    margins = classify._held_out(counted, labels, width, folds)
    said, sure = np.zeros_like(labels), np.zeros(len(labels))
    for rest, fold in folds:
        chances = softmax(margins[fold], classify._calibrate(margins[rest], labels[rest]))
        said[fold], sure[fold] = chances.argmax(axis=1), chances.max(axis=1)
    return said, sure


def _others(
    counted: csr_array, labels: Ints, width: int, folds: Sequence[tuple[Ints, Ints]]
) -> tuple[Ints, Ints]:
    """Naive Bayes on how often pieces occur, and the vote of the most alike texts."""
    bayes, near = np.zeros_like(labels), np.zeros_like(labels)
    for rest, fold in folds:
        bayes[fold] = MultinomialNB(alpha=SMOOTH).fit(counted[rest], labels[rest]).predict(
            counted[fold]
        )  # fmt: skip
        column, idf, _ = classify._fit(counted[rest], labels[rest], width)
        known, asked = (weigh(counted[rows], column, idf) for rows in (rest, fold))
        alike = (asked @ known.T).toarray()
        best = np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        votes = np.zeros((len(fold), width))
        for column_of in best.T:
            rows = np.arange(len(fold))
            votes[rows, labels[rest][column_of]] += alike[rows, column_of]
        near[fold] = votes.argmax(axis=1)
    return bayes, near


def _by_share(
    counted: csr_array, labels: Ints, width: int, folds: Sequence[tuple[Ints, Ints]]
) -> dict[str, float]:
    """Macro-F1 by how much of the labelled texts is learnt from: what more of them would bring."""
    found = {}
    for share in (0.25, 0.5, 1.0):
        chance = np.random.default_rng(0)
        fewer = [(np.sort(chance.permutation(r)[: int(len(r) * share)]), f) for r, f in folds]
        margins = classify._held_out(counted, labels, width, fewer)
        said = np.zeros_like(labels)
        for rest, fold in folds:
            scale = classify._calibrate(margins[rest], labels[rest])
            said[fold] = softmax(margins[fold], scale).argmax(axis=1)
        found[f"{share:.0%}"] = round(_f1(labels, said), 4)
    return found


# ---- same matter


def same_matter(folder: Path) -> dict[str, Any]:
    """The learnt policy over unseen time and over unseen places, and what bounds any policy."""
    past = history.read_reports(folder / "reports.csv", (), ZONE)
    truth = history.read_pairs(folder / "pairs.csv", past.reports)
    learnt = history.learn(past, truth, MergePolicy())
    over_time = learnt.cross_validated
    events = history.decide(learnt.policy, past.reports)
    place = _places(past.reports)
    of_place = Counter(place[a] for a, _ in truth)
    return {
        "reports": len(past.reports),
        "pairs": len(truth),
        "f1_over_unseen_time": round(over_time.f1, 4),
        "standard_error_of_places": round(_error_of_places(events, past.reports, truth, place), 4),
        "places_with_pairs": len(of_place),
        "pairs_of_the_busiest_place": max(of_place.values()),
        "most_f1_of_a_rule_of_class_distance_delay": round(_most(past.reports, truth), 4),
        "alike_and_linked_or_not": _alike(past.reports, truth),
    }


def _near(
    reports: Iterable[history.PastReport],
) -> Iterator[tuple[history.PastReport, history.PastReport, float]]:
    """Pairs (earlier, later) of one class within reach, and how far apart they are."""
    members: dict[str, list[history.PastReport]] = defaultdict(list)
    for report in reports:
        if report.lon is not None and report.lat is not None:
            for other in members[report.category]:
                assert other.lon is not None
                assert other.lat is not None
                apart = metres(report.lon, report.lat, other.lon, other.lat)
                if apart <= REACH_M:
                    yield other, report, apart
            members[report.category].append(report)


def _places(reports: Sequence[history.PastReport]) -> dict[str, str]:
    """Report → the first of those that it is connected with by nearness and class."""
    root = {report.id: report.id for report in reports}
    for earlier, later, _ in _near(reports):
        ones = root[earlier.id], root[later.id]
        if ones[0] != ones[1]:
            root = {report: ones[0] if of == ones[1] else of for report, of in root.items()}
    return root


def _error_of_places(
    events: Mapping[str, str],
    reports: Sequence[history.PastReport],
    truth: frozenset[tuple[str, str]],
    place: Mapping[str, str],
) -> float:
    """Standard error of F1 were other places drawn: a place's pairs come together."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    members: dict[str, list[history.PastReport]] = defaultdict(list)
    for report in reports:
        for other in members[events[report.id]]:
            sums[place[other.id]][1] += 1
            sums[place[other.id]][0] += (other.id, report.id) in truth
        members[events[report.id]].append(report)
    for one, _ in truth:
        sums[place[one]][2] += 1
    cells = np.array(list(sums.values()))
    draws = np.random.default_rng(0).integers(0, len(cells), (DRAWS, len(cells)))
    right, told, true = cells[draws].sum(axis=1).T
    return float(np.std(2 * right / (told + true)))


def _bucket(
    earlier: history.PastReport, later: history.PastReport, apart: float
) -> tuple[Any, ...]:
    hours = (later.at - earlier.at) / 3_600_000
    return earlier.category, np.searchsorted(DISTANCES, apart), np.searchsorted(DELAYS, hours)


def _cells(
    reports: Sequence[history.PastReport], truth: frozenset[tuple[str, str]]
) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Class, distance and delay → pairs that were linked, pairs."""
    cells: dict[tuple[Any, ...], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for earlier, later, apart in _near(reports):
        linked, pairs = cells[bucket := _bucket(earlier, later, apart)]
        cells[bucket] = linked + ((earlier.id, later.id) in truth), pairs + 1
    return cells


def _most(reports: Sequence[history.PastReport], truth: frozenset[tuple[str, str]]) -> float:
    """The best F1 of a rule that says yes or no to each cell, chosen on the truth itself."""
    cells = sorted(_cells(reports, truth).values(), key=lambda cell: -cell[0] / cell[1])
    right, told = np.cumsum(cells, axis=0).T
    return float(np.max(2 * right / (told + len(truth))))


def _alike(
    reports: Sequence[history.PastReport], truth: frozenset[tuple[str, str]]
) -> dict[str, int]:
    """Linked pairs, and those not linked that have a linked one like them in class, distance and delay."""
    cells = [cell for cell in _cells(reports, truth).values() if cell[0]]
    return {
        "linked": sum(linked for linked, _ in cells),
        "not_linked": sum(pairs - linked for linked, pairs in cells),
    }


def main() -> None:
    """One JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ceiling")
    parser.add_argument("--show", type=int, default=0, help="so many texts that three judge alike")
    parser.add_argument("--files", type=Path, help="only write the data's CSV files there")
    given = parser.parse_args()
    if not DATA.exists():
        print("skipped: needs ../shared/data", file=sys.stderr)
        return
    if given.files:
        given.files.mkdir(parents=True, exist_ok=True)
        write(given.files)
        return
    with tempfile.TemporaryDirectory() as made:
        write(Path(made))
        result = {
            "classes": classes(Path(made), given.show),
            "same_matter": same_matter(Path(made)),
        }
    Console(stderr=True).print(result)
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
