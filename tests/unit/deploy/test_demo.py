"""The demo's city is the one that was asked for, only quicker."""

from pathlib import Path

import pytest

from deploy.demo import PACE, quick_city
from schemas.city import load_city
from schemas.settings import Settings


def test_every_limit_is_as_much_shorter_as_the_departments_are_quick(tmp_path: Path) -> None:
    real, quick = load_city("zhengzhou"), load_city(str(quick_city(Settings(home=tmp_path))))
    assert quick.classes.keys() == real.classes.keys()
    for code, entry in real.classes.items():
        assert quick.classes[code].unit == entry.unit
        assert quick.classes[code].deadline == pytest.approx(entry.deadline / PACE, abs=1e-6)
    assert len(quick.duties) == len(real.duties) > 0
    for mine, theirs in zip(quick.duties, real.duties, strict=True):
        assert mine.deadline == pytest.approx(theirs.deadline / PACE, abs=1e-6)


def test_a_second_demo_shortens_nothing_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    first = (quick_city(settings) / "taxonomy.csv").read_bytes()
    assert (quick_city(settings) / "taxonomy.csv").read_bytes() == first
    again = settings.model_copy(update={"city": str(quick_city(settings))})
    assert (quick_city(again) / "taxonomy.csv").read_bytes() == first
