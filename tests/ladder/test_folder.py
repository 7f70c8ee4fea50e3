"""Where a run's outputs go: never into the pictures, never over another run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tellapart.data import Manifest
from tellapart.data.manifest import Excluded
from tellapart.driving import finish
from tellapart.errors import DataError, RecipeError
from tellapart.ladder import folder as folders
from tellapart.ladder.folder import RunFolder
from tellapart.recipe import Recipe

from ..conftest import write_photos
from ..corpus.conftest import state


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def test_runs_are_numbered_beside_the_pictures(photos: Path) -> None:
    first, second = (prepare(photos, None, Recipe(), resume=False) for _ in range(2))
    assert [first.path, second.path] == [photos.parent / "photos-runs" / number for number in ("1", "2")]
    assert list(photos.iterdir()) == []


def test_a_folder_named_by_a_dot_still_gets_its_runs_beside_it(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert prepare(Path(), None, Recipe(), resume=False).path.resolve() == photos.parent / "photos-runs" / "1"


def test_a_table_gets_its_runs_beside_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    assert prepare(tmp_path / "labels.csv", None, Recipe(), resume=False).path == tmp_path / "labels-runs" / "1"


@pytest.mark.parametrize("inside", [".", "run", "ants/run", "../photos/run"])
def test_a_run_folder_inside_the_pictures_is_refused(photos: Path, inside: str) -> None:
    with pytest.raises(DataError, match="inside the pictures' folder"):
        prepare(photos, photos / inside, Recipe(), resume=False)
    assert list(photos.iterdir()) == []


def test_missing_data_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        prepare(tmp_path / "nothing", tmp_path / "run", Recipe(), resume=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_left_alone(photos: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1").write_text("precious")
    for resume in (False, True):
        with pytest.raises(DataError, match="holds no run"):
            prepare(photos, thesis, Recipe(), resume=resume)
    assert [path.name for path in thesis.iterdir()] == ["chapter1"]


def prepare(data: Path, out: Path | None, recipe: Recipe, resume: bool) -> RunFolder:
    """Prepare a run folder as a process does that ends right after."""
    folder = finish(folders.prepare(data, out, recipe, resume))
    folder.release()
    return folder


def begun(photos: Path, run: Path, recipe: Recipe) -> RunFolder:
    folder = prepare(photos, run, recipe, resume=False)
    folder.remember(finished=False)
    (run / "events.jsonl").write_text("")
    return folder


def test_a_run_that_was_killed_before_its_first_event_is_gone_on_with(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare(photos, run, Recipe(), resume=False)
    (run / ".run.json.82ihef1m.tmp").write_text('{"da')
    with pytest.raises(DataError, match="holds no run"):
        prepare(photos, run, Recipe(), resume=False)
    assert prepare(photos, run, Recipe(), resume=True).fresh
    assert [path.name for path in run.iterdir()] == ["recipe.json"]
    (run / "recipe.json").write_text('{"flour": 500}')  # of someone else's
    with pytest.raises(DataError, match="holds no run"):
        prepare(photos, run, Recipe(), resume=True)


def test_a_run_to_go_on_with_is_named(photos: Path) -> None:
    before = sorted(photos.parent.iterdir())
    with pytest.raises(RecipeError, match=r"there is no --out.*--out .*photos-runs/1") as refused:
        prepare(photos, None, Recipe(), resume=True)
    assert refused.value.code == "bad_option"
    assert sorted(photos.parent.iterdir()) == before


def test_a_run_is_not_written_over_but_can_be_gone_on_with(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(photos, run, Recipe())
    with pytest.raises(DataError, match="--resume"):
        prepare(photos, run, Recipe(), resume=False)
    write_photos(photos, each=1)
    Manifest(photos, (), ("ants", "bees"), tuple(left_out("ants/00.png", "bees/00.png"))).write(run / "manifest.jsonl")
    again = prepare(photos, run, Recipe(), resume=True)
    assert (again.fresh, again.previous) == (False, run / "manifest.jsonl")


def left_out(*paths: str) -> Iterator[Excluded]:
    return (Excluded(path, "too_small", "It is too small.", path.split("/")[0]) for path in paths)


def changed_set(photos: Path, run: Path) -> None:
    """Begin a run on two files, then add one, and take one away."""
    begun(photos, run, Recipe())
    write_photos(photos, each=1)
    Manifest(photos, (), ("ants", "bees"), tuple(left_out("ants/00.png", "bees/00.png"))).write(run / "manifest.jsonl")
    (photos / "bees/00.png").rename(photos / "bees/new.png")
    (run / "STOP").touch()


CHANGED = "1 file was added (bees/new.png), 1 file was removed (bees/00.png)"


@pytest.mark.parametrize("wish", [{}, {"budget": "2h"}])
def test_case_99_a_run_whose_pictures_have_changed_is_not_gone_on_with(
    wish: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    changed_set(photos, run)
    before = state(run)
    with pytest.raises(DataError) as refused:
        prepare(photos, run, Recipe.of(**wish), resume=True)
    assert (refused.value.code, refused.value.exit_code) == ("other_data", 2)
    assert CHANGED in refused.value.message
    assert "--out" in refused.value.next
    assert state(run) == before


def test_case_99_a_finished_run_tells_that_its_pictures_have_changed_and_is_not_extended_on_them(
    photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    changed_set(photos, run)
    (run / "result.json").write_text('{"version": 1, "method": "probe"}')
    RunFolder(run, photos, fresh=False).remember(finished=True)
    told = prepare(photos, run, Recipe(), resume=True)
    assert (told.finished, told.changed) == ({"version": 1, "method": "probe"}, CHANGED)
    with pytest.raises(DataError, match="1 file was added"):
        prepare(photos, run, Recipe.of(epochs=50), resume=True)
    (photos / "bees/new.png").rename(photos / "bees/00.png")
    assert prepare(photos, run, Recipe(), resume=True).changed == ""
    (run / "manifest.jsonl").write_text("{}")
    told = prepare(photos, run, Recipe(), resume=True)
    assert told.finished is not None
    assert "cannot be compared" in told.changed


def test_resuming_in_an_absent_folder_starts_fresh(photos: Path, tmp_path: Path) -> None:
    assert prepare(photos, tmp_path / "run", Recipe(), resume=True).fresh


def test_resuming_with_other_options_names_them(photos: Path, tmp_path: Path) -> None:
    begun(photos, tmp_path / "run", Recipe())
    with pytest.raises(RecipeError, match=r"--val was 0\.15, is 0\.3; --seed was 0, is 1"):
        prepare(photos, tmp_path / "run", Recipe.of(val=0.3, seed=1), resume=True)


def test_a_finished_run_gives_its_stored_result_unless_more_is_asked(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(photos, run, Recipe()).remember(finished=True)
    (run / "result.json").write_text(json.dumps({"version": 1, "method": "probe"}))
    assert prepare(photos, run, Recipe(), resume=True).finished == {"version": 1, "method": "probe"}
    assert prepare(photos, run, Recipe.of(budget="2h"), resume=True).finished is None
    begun_anew = prepare(photos, run, Recipe.of(epochs=50), resume=True)
    assert begun_anew.finished is None


@pytest.mark.parametrize("left", ['{"version": 1, "meth', "null", "[]", "{}"])
def test_a_result_that_is_damaged_is_said_to_be(photos: Path, tmp_path: Path, left: str) -> None:
    run = tmp_path / "run"
    begun(photos, run, Recipe()).remember(finished=True)
    (run / "result.json").write_text(left)
    with pytest.raises(DataError, match=r"result\.json cannot be read") as refused:
        prepare(photos, run, Recipe(), resume=True)
    assert refused.value.code == "damaged_run"


def test_a_run_that_was_stopped_goes_on_and_is_not_stopped_again(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(photos, run, Recipe())
    (run / "result.json").write_text(json.dumps({"method": "majority"}))
    (run / "STOP").touch()
    assert prepare(photos, run, Recipe(), resume=True).finished is None
    assert not (run / "STOP").exists()


def test_a_run_is_not_gone_on_with_on_other_pictures(photos: Path, tmp_path: Path) -> None:
    begun(photos, tmp_path / "run", Recipe())
    (tmp_path / "others").mkdir()
    with pytest.raises(DataError, match=r"was made with .*photos, not with .*others"):
        prepare(tmp_path / "others", tmp_path / "run", Recipe(), resume=True)


def test_a_run_folder_belongs_to_one_process_at_a_time(photos: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "run", None):
        first = finish(folders.prepare(photos, out, Recipe(), resume=False))
        with pytest.raises(DataError, match=rf"in use by process {os.getpid()} on .* UTC") as caught:
            finish(folders.prepare(photos, first.path, Recipe(), resume=True))
        assert caught.value.code == "run_in_use"
        first.release()
        assert sorted(path.name for path in first.path.iterdir()) == ["recipe.json"]


@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
def test_a_lock_ends_with_its_process_even_when_it_is_killed(photos: Path, tmp_path: Path) -> None:
    run = begun(photos, tmp_path / "run", Recipe()).path
    hold = "import sys; from pathlib import Path; from tellapart.locks import claim; held = claim(Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(held, flush=True); input()", str(run / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().startswith(b"Lock(")
        with pytest.raises(DataError, match=f"process {other.pid} on"):
            prepare(photos, run, Recipe(), resume=True)
        other.kill()
        other.wait()
    assert (run / "lock").exists()
    assert prepare(photos, run, Recipe(), resume=True).path == run
    assert not (run / "lock").exists()
