"""A file is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart import files
from tellapart.lazy import Lazy


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"x": 1})
    with pytest.raises(TypeError):
        files.write_json(target, {"x": object()})
    with pytest.raises(TypeError):
        files.write_bytes(target, "not bytes")  # type: ignore[arg-type]
    assert json.loads(target.read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": (2,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, 1.5], "c": [2]}


def test_what_is_made_one_by_one_is_written_as_a_list_would_be(tmp_path: Path) -> None:
    alive: set[int] = set()

    class Item(dict[str, int]):
        def __del__(self) -> None:
            alive.discard(id(self))

    most = 0

    def each() -> Iterator[Item]:
        nonlocal most
        for number in range(20_000):
            item = Item(number=number)
            alive.add(id(item))
            most = max(most, len(alive))
            yield item

    files.write_json(tmp_path / "lazy.json", {"a": [Lazy(each, 20_000), Lazy(lambda: iter(()), 0)], "b": 1})
    assert most < 5
    files.write_json(tmp_path / "list.json", {"a": [list(each()), []], "b": 1})
    assert (tmp_path / "lazy.json").read_bytes() == (tmp_path / "list.json").read_bytes()


def test_what_is_made_anew_is_the_same_at_any_place() -> None:
    lazy = Lazy(lambda: iter("abcdef"), 6)
    assert (lazy[0], lazy[-1], lazy[1:3], lazy[::2], lazy[4:2], lazy[::-1]) == (
        *("a", "f", ("b", "c"), ("a", "c", "e"), (), tuple("fedcba")),
    )
    assert list(lazy) == list(lazy) == lazy
    assert lazy != Lazy(lambda: iter("abcdex"), 6)
    with pytest.raises(IndexError):
        lazy[6]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(FileNotFoundError), files.new_folder(target) as folder:
        (folder / "absent" / "half").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    with files.new_folder(target) as folder:
        (folder / "two").write_text("2")
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_name_that_is_not_unicode_is_written_back_as_it_was(tmp_path: Path) -> None:
    files.write_text(tmp_path / "names", b"caf\xe9".decode("utf-8", errors="surrogateescape"))
    assert (tmp_path / "names").read_bytes() == b"caf\xe9"
