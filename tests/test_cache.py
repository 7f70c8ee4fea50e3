"""A cache gives back what was put in, survives damage, and is found where it should be."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart import cache
from tellapart.cache import Space, cache_root, digest_of


@settings(deadline=None)
@given(
    entries=st.dictionaries(st.text("0123456789abcdef", min_size=1, max_size=8), st.binary(max_size=40), max_size=40)
)
def test_what_was_put_in_comes_back_for_each_place_it_is_asked(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, bytes]
) -> None:
    with Space(tmp_path_factory.mktemp("cache"), "things", "a" * 64) as space:
        space.put(entries.items())
        asked = [*entries, "absent", *entries]
        got = dict(space.get(asked))
    assert got == {place: entries[key] for place, key in enumerate(asked) if key in entries}


def test_more_keys_than_one_query_takes_are_all_found(tmp_path: Path) -> None:
    keys = [f"{number:05d}" for number in range(1_700)]
    with Space(tmp_path, "things", "b" * 64) as space:
        space.put((key, key.encode()) for key in keys)
        assert sorted(value for _, value in space.get(keys)) == [key.encode() for key in keys]


def test_a_key_that_is_present_keeps_its_value(tmp_path: Path) -> None:
    with Space(tmp_path, "things", "c" * 64) as space:
        space.put([("k", b"first")])
        space.put([("k", b"second")])
        assert list(space.get(["k"])) == [(0, b"first")]


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    with Space(tmp_path, "things", "d" * 64) as space:
        space.put([("k", b"v")])
    cache._IDLE.close()  # as at the end of a process
    file = next((tmp_path / "things").glob("*.sqlite"))
    file.write_bytes(b"this is not a database" * 300)
    with Space(tmp_path, "things", "d" * 64) as space:
        assert list(space.get(["k"])) == []
        space.put([("k", b"w")])
        assert list(space.get(["k"])) == [(0, b"w")]


def test_the_named_folder_comes_first_and_the_run_folder_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "named"))
    assert cache_root(tmp_path / "run") == tmp_path / "named"
    monkeypatch.delenv("TELLAPART_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(tmp_path / "run") == tmp_path / "xdg" / "tellapart"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_root(tmp_path / "run") == tmp_path / "run" / "cache"


def test_a_digest_does_not_hang_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 2, "b": 1})


def test_what_was_put_in_is_seen_by_others_at_once(tmp_path: Path) -> None:
    with Space(tmp_path, "things", "e" * 64) as space:
        space.put([("k", b"v")])
    with contextlib.closing(sqlite3.connect(next((tmp_path / "things").glob("*.sqlite")))) as other:
        assert other.execute("SELECT value FROM entries").fetchall() == [(b"v",)]
        other.execute("INSERT INTO entries VALUES ('l', x'77')")
        other.commit()
    with Space(tmp_path, "things", "e" * 64) as space:
        assert sorted(space.get(["k", "l"])) == [(0, b"v"), (1, b"w")]


def test_a_cache_that_was_deleted_is_begun_anew(tmp_path: Path) -> None:
    for value in (b"v", b"w"):
        with Space(tmp_path, "things", "f" * 64) as space:
            assert list(space.get(["k"])) == []
            space.put([("k", value)])
        with Space(tmp_path, "things", "f" * 64) as space:
            assert list(space.get(["k"])) == [(0, value)]
        shutil.rmtree(tmp_path / "things")


def test_few_files_stay_open_however_many_were_used(tmp_path: Path) -> None:
    for number in range(60):
        with Space(tmp_path, "things", f"{number:064x}") as space:
            space.put([("k", b"v")])
    assert len(cache._IDLE._kept) <= cache._MOST_IDLE
    with Space(tmp_path, "things", f"{0:064x}") as space:
        assert list(space.get(["k"])) == [(0, b"v")]


def test_a_fork_opens_its_own(tmp_path: Path) -> None:
    program = """if True:
        import os, sys
        from pathlib import Path
        from tellapart.cache import Space
        root = Path(sys.argv[1])
        with Space(root, "things", "a") as space:
            space.put([("k", b"v")])
        if not (child := os.fork()):
            with Space(root, "things", "a") as space:
                space.put([("l", b"w")])
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with Space(root, "things", "a") as space:
            assert sorted(space.get(["k", "l"])) == [(0, b"v"), (1, b"w")]
        """
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert not list((tmp_path / "things").glob("*-wal")), "the end of a process closes all"
