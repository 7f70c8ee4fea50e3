"""What is written for a spreadsheet is read back as it was, and begins no formula."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tellapart.cells import CLEANED, SUGGESTED, guarded, is_guarded, unguarded


@given(st.text(alphabet="'=+-@\t\rab", max_size=6))
@example("''=x")
def test_a_cell_begins_no_formula_and_is_read_back(text: str) -> None:
    cell = guarded(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(cell) == text


def test_tables_of_ours_are_known_with_columns_that_a_person_added() -> None:
    assert is_guarded(CLEANED)
    assert is_guarded([*SUGGESTED, "remark"])
    assert not is_guarded(["path", "label"])
