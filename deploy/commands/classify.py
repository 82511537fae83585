"""`quanyu train classify` and `quanyu evaluate classify`: the classifier of texts on a city's own history."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
Data = Annotated[Path, typer.Option(help="CSV in UTF-8 with columns text and label, maybe title.")]


def add_train(group: typer.Typer) -> None:
    """Add `classify` to `quanyu train`."""

    @group.command("classify")
    def train_classify(
        data: Data,
        out: Annotated[Path, typer.Option(help="Where the model goes (.npz).")],
        seed: Annotated[int, typer.Option(help="Of the folds of the cross-validation.")] = 0,
        as_json: AsJson = False,
    ) -> None:
        """Learn to classify texts from labelled ones; prints the macro-F1 on texts not seen.

        Example: quanyu train classify --data history.csv --out classifier.npz
        """
        from deploy.train_classify import read_labelled, train

        labelled = read_labelled(data)
        Console(stderr=True).print(
            f"{len(labelled.texts)} texts; learning, five times for the measure"
        )
        model, result = train(labelled, seed)
        model.save(out)
        _say({"model": str(out), **result}, as_json)


def add_evaluate(group: typer.Typer) -> None:
    """Add `classify` to `quanyu evaluate`."""

    @group.command("classify")
    def evaluate_classify(
        data: Data,
        model: Annotated[
            Path | None, typer.Option(help="A trained model; without it the taxonomy's own words.")
        ] = None,
        labels: Annotated[
            Path | None,
            typer.Option(
                help="Without a model: CSV code,label from the taxonomy's codes (or their first two digits)."
            ),
        ] = None,
        threshold: Annotated[
            float, typer.Option(min=0, max=1, help="Below it a text goes to review.")
        ] = 0.0,
        as_json: AsJson = False,
    ) -> None:
        """How well a model classifies labelled texts.

        Example: quanyu evaluate classify --data held_out.csv --model classifier.npz --threshold 0.7
        """
        from deploy.train_classify import by_keywords, measure, read_labelled
        from schemas.settings import load_settings
        from streams.intake.text_model import load_text_model

        labelled = read_labelled(data)
        if model is not None:
            trained = load_text_model(model)
            names, probabilities = trained.labels, trained.probabilities(labelled.texts)
        else:
            names, probabilities = by_keywords(labelled, load_settings().city, labels)
        _say(measure(labelled, names, probabilities, threshold), as_json)


def _say(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    table = Table("", "")
    for name, value in result.items():
        if name != "per_class":
            table.add_row(name, str(value))
    for label, entry in result.get("per_class", {}).items():
        table.add_row(
            label,
            f"{entry['rows']} rows, precision {entry['precision']}, recall {entry['recall']}, F1 {entry['f1']}",
        )
    Console(highlight=False).print(table)
