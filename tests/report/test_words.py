from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.report.words import amount, duration, interval, metric, percent, plain, quoted, shortened, size, visible


@pytest.mark.parametrize(
    ("value", "n", "text"),
    [
        (0.967, None, "96.7%"),
        (0.967, 44, "97%"),
        (1.0, 10, "100%"),
        (0.0, None, "0.0%"),
        (0.9996, None, "99.9%"),
        (0.996, 50, "99%"),
        (0.0001, None, "under\u00a00.1%"),
        (None, 5, "–"),
        (math.nan, 5, "–"),
    ],
)
def test_a_share_reads_as_a_percentage_that_is_never_rounded_to_all_or_none(
    value: float | None, n: int | None, text: str
) -> None:
    assert percent(value, n) == text


def test_an_interval_is_left_out_when_an_end_is_missing() -> None:
    assert interval(0.926, 0.9863) == "92.6 to 98.6%"
    assert interval(0.926, 0.9863, 40) == "93 to 99%"
    assert interval(None, 0.5) == interval(0.5, math.inf) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.04, "0.04 s"),
        (9.8, "9.8 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (125.2, "2 min 5 s"),
        (3599.7, "1 h"),
        (3780.0, "1 h 3 min"),
        (None, "–"),
    ],
)
def test_a_duration_reads_in_the_units_of_its_size(seconds: float | None, text: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == text


def test_counts_sizes_and_plain_numbers_read_as_people_write_them() -> None:
    assert amount(12480) == "12,480"
    assert metric(0.08349) == "0.083"
    assert metric(math.inf) == amount(math.nan) == size(None) == "–"
    assert [size(n).replace("\u00a0", " ") for n in (512, 3_940_000_000, 999_960)] == ["512 B", "3.9 GB", "1.0 MB"]


@given(st.text(st.characters()))
def test_a_visible_name_has_no_character_that_acts_and_can_be_encoded(name: str) -> None:
    seen = visible(name)
    seen.encode("utf-8")
    acting = {c for c in seen if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - {"\u200c", "\u200d"}
    assert not acting


def test_a_harmless_name_stays_as_it_is_and_a_harmful_one_shows_what_it_holds() -> None:
    for name in ("ants & <bees>", "naïve 猫", "خانه\u200cها", "👩\u200d🔬"):
        assert visible(name) == name
    assert visible("a\x00b\x1b\x7f") == "a␀b␛␡"
    assert visible("\u202egnp.exe\u2066") == "‹U+202E›gnp.exe‹U+2066›"
    assert visible("caf\udce9") == "caf\\xe9"


def test_a_quoted_name_cannot_close_its_own_isolation() -> None:
    said = quoted("a\u2069\u2068b")
    assert said.count("\u2068") == said.count("\u2069") == 1
    assert plain(said) == "“a‹U+2069›‹U+2068›b”"


@given(st.text(), st.integers(4, 40))
def test_a_shortened_name_fits_and_keeps_both_its_ends(name: str, longest: int) -> None:
    short, full = shortened(name, longest), visible(name)
    assert len(short) <= longest
    assert short == full or (full.startswith(short.split("…")[0]) and full.endswith(short.split("…")[-1]))
