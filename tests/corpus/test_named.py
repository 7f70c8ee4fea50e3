"""Every case of a bad input has a test that names it: by the page's number, 1 to 83 and 91 to 105."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import pictures, trees

NAMED = re.compile(r"def test_((?:case_[0-9_and]+)+)")
FOUND = {case.number for case in pictures.CASES} | {case.number for case in trees.CASES}
FOUND |= {
    int(number)
    for path in Path(__file__).parents[1].rglob("test_*.py")
    for names in NAMED.findall(path.read_text(encoding="utf-8"))
    for number in re.findall(r"[0-9]+", names)
}


@pytest.mark.parametrize("number", [*range(1, 84), *range(91, 106)])
def test_a_case_has_a_test_that_names_it(number: int) -> None:
    assert number in FOUND
