"""Texts become comparable, dates that cannot be are told from those that can."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.instants import Instant
from schemas.texts import clean
from streams.intake.normalise import EARLIEST_MS, FUTURE_LIMIT_MS, plausible

NOW = 1_772_700_000_000


def test_full_width_and_plain_writing_of_an_id_are_one() -> None:
    assert clean("　Ａ１２－３ ") == clean("A12-3") == "A12-3"


def test_nul_and_marks_that_nobody_sees_are_gone() -> None:
    assert clean("积\x00水\u200b在\ufeff路\u202e口") == "积水在路口"


def test_white_space_of_any_kind_is_one_space_and_none_at_the_ends() -> None:
    assert clean("\n\t\t市民  反映\r\n\u3000积水 ") == "市民 反映 积水"


def test_nothing_stays_nothing() -> None:
    assert clean(None) == clean("") == clean(" \x00\n") == ""


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


def test_what_lies_ahead_by_more_than_a_clock_errs_is_impossible() -> None:
    assert plausible(Instant(NOW + FUTURE_LIMIT_MS, 0), NOW)
    assert not plausible(Instant(NOW + FUTURE_LIMIT_MS + 1, 0), NOW)


def test_the_default_date_of_some_software_is_impossible() -> None:
    assert plausible(Instant(EARLIEST_MS, 0), NOW)
    assert not plausible(Instant(EARLIEST_MS - 1, 0), NOW)
    assert not plausible(Instant(0, 0), NOW)
