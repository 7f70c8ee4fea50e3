"""Files that are left out are kept in little memory, and come out as they went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tellapart.data.left_out import Excluded, LeftOut

FILES = st.builds(
    Excluded,
    st.text(st.characters() | st.sampled_from("\0\1\2\3\ud800"), max_size=3),
    st.sampled_from(["truncated", "no_label"]),
    st.sampled_from(["It ends too early.", "It has no label."]) | st.text(max_size=2),
    st.sampled_from([None, "cat"]),
    st.sampled_from(["", "ab" * 32]),
    st.integers(-1, 2**40),
)


def everything(item: Excluded) -> tuple[object, ...]:
    return item.path, item.code, item.note, item.label, item.sha256, item.size, item.mtime_ns


@given(st.lists(FILES, unique_by=lambda item: item.path), st.sampled_from([1, 200]))
def test_what_is_left_out_comes_out_as_it_went_in_and_sorted_by_path(items: list[Excluded], in_memory: int) -> None:
    kept = LeftOut(items, in_memory)
    assert list(map(everything, kept)) == list(map(everything, items))
    assert [kept[place] for place in range(len(kept))] == items == kept[:]
    assert kept == tuple(items)
    ordered = sorted(items, key=lambda item: item.path)
    assert list(map(everything, kept.by_path())) == list(map(everything, ordered))
    assert kept.counts["truncated"] == sum(item.code == "truncated" for item in items)
    assert list(kept.of("truncated")) == [item.path for item in items if item.code == "truncated"]


def test_a_file_more_or_another_makes_a_difference() -> None:
    one, two = Excluded("a", "truncated", ""), Excluded("b", "truncated", "")
    assert LeftOut([one]) != LeftOut([two])
    assert LeftOut([one]) != LeftOut([one, two])
    assert LeftOut([one]) != "a"
