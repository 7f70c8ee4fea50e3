"""A bundle is measured wherever it can be read, and nothing is left out in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

import tellapart
from tellapart.errors import DataError, InputError
from tellapart.events import Event, Note


@pytest.mark.parametrize("home", ["cache", "home"])
def test_where_nothing_can_be_kept_it_works_and_leaves_nothing(
    photos: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").write_text("no folder can be made in here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TELLAPART_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("TELLAPART_CACHE" if home == "cache" else "HOME", str(tmp_path / "file" / "x"))
    assert tellapart.evaluate(tiny_bundle, photos).as_json()["n"] == 48
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_left_out_is_counted_with_its_reasons(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    whole = (tmp_path / "photos" / "ants" / "00.png").read_bytes()
    for number in range(2):
        (tmp_path / "photos" / "ants" / f"cut{number}.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos" / "bees" / "text.png").write_text("no picture")
    seen: list[Event] = []
    found = tellapart.evaluate(tiny_bundle, tmp_path / "photos", watch=seen.append)
    told = "3 file(s) were left out: 2 truncated, 1 not_an_image."
    assert told in found.notes
    assert [event.text for event in seen if isinstance(event, Note)].count(told) == 1
    assert found.as_json()["n"] == 48


def test_where_nothing_was_left_out_nothing_is_said(photos: Path, tiny_bundle: Path) -> None:
    assert not [note for note in tellapart.evaluate(tiny_bundle, photos).notes if "left out" in note]


def test_corrupted_pictures_are_measured_when_asked_for_the_same_each_time(photos: Path, tiny_bundle: Path) -> None:
    first, again = (tellapart.evaluate(tiny_bundle, photos, robustness=True).as_json() for _ in range(2))
    assert first == again
    found = first["robustness"]
    assert {(one["corruption"], one["strength"]) for one in found} == {
        (name, strength) for name in ("blur", "noise", "jpeg", "brightness", "rotation") for strength in (1, 2, 3)
    }
    assert {one["n"] for one in found} == {first["n"]}
    assert [one["accuracy"] for one in found] == sorted(one["accuracy"] for one in found)
    assert all(one["change"] == pytest.approx(one["accuracy"] - first["accuracy"]) for one in found)


def test_a_kind_of_pictures_is_named_by_a_column_of_the_table(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """The labels of one camera are wrong, and it is that camera which is named; in training too, folder or not."""
    shutil.copytree(photos, tmp_path / "photos")
    rows = ["path,label,camera"]
    for place, path in enumerate(sorted((tmp_path / "photos").rglob("*.png"))):
        label, old = path.parent.name, place % 3 == 0
        wrong = {"ants": "bees", "bees": "ants"}[label]
        rows.append(f"photos/{label}/{path.name},{wrong if old else label},{'old' if old else 'new'}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    found = tellapart.evaluate(tiny_bundle, tmp_path / "table.csv").as_json()["slices"]
    assert (found["worst"]["what"], found["worst"]["where"], found["worst"]["n"]) == ("camera", "old", 16)
    assert {one["what"] for one in found["all"]} >= {"camera", "folder", "brightness, 0 to 255", "sharpness"}
    run = tellapart.train(tmp_path / "table.csv", out=tmp_path / "run", method="majority", folds=3)
    assert run.summary is not None
    assert run.summary.slices is not None
    assert {one.where for one in run.summary.slices.all if one.what == "camera"} == {"old", "new"}


def test_a_page_is_written_where_asked_with_the_numbers_of_these_pictures(
    photos: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    page = tmp_path / "test.html"
    found = tellapart.evaluate(tiny_bundle, photos, report=page, robustness=True).as_json()
    text = page.read_text(encoding="utf-8")
    assert f"{100 * found['accuracy']:.0f}%" in text
    assert "on 48 pictures it was given" in text
    assert "it has learned from none of them" in text
    for section in ("verdict", "confusion", "classes", "slices", "robustness", "answers", "splits", "data"):
        assert f'id="{section}-h"' in text
    for section in ("ladder", "decisions", "curves"):
        assert f'id="{section}-h"' not in text
    assert "never saw" not in text
    assert "tellapart train" not in text
    assert "default-src" in text
    tellapart.evaluate(tiny_bundle, photos, report=page)  # a page of ours may be replaced


@pytest.mark.parametrize("where", ["photos/page.html", "page.txt", "nowhere/page.html", "notes.html"])
def test_a_page_that_would_harm_is_refused_before_anything_is_measured(
    photos: Path, tiny_bundle: Path, tmp_path: Path, where: str
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "notes.html").write_text("my own notes")
    seen: list[Event] = []
    with pytest.raises(InputError, match="--report") as refused:
        tellapart.evaluate(tiny_bundle, tmp_path / "photos", report=tmp_path / where, watch=seen.append)
    assert refused.value.code == "report_refused"
    assert seen == []
    assert (tmp_path / "notes.html").read_text() == "my own notes"


def test_another_bundle_is_compared_on_the_same_pictures(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """One that always guesses, from either side, and the same one."""
    shutil.copytree(photos, tmp_path / "photos")
    for path in sorted((tmp_path / "photos" / "ants").iterdir())[:3]:
        path.rename(tmp_path / "photos" / "bees" / f"wrong-{path.name}")
    data, other = tmp_path / "photos", tellapart.train(photos, out=tmp_path / "run", method="majority").bundle
    found = tellapart.evaluate(tiny_bundle, data, against=other).as_json()
    right = found["accuracy"]
    alone = tellapart.evaluate(other, data).as_json()["accuracy"]
    against = found["against"]
    assert against["n"] == found["n"] == 48
    assert against["difference"] == pytest.approx(right - alone)
    assert against["only_first"] - against["only_second"] == round(48 * (right - alone))
    assert against["low"] < against["difference"] < against["high"]
    first, both = against["only_first"], against["only_first"] + against["only_second"]
    assert against["p"] == pytest.approx(binomtest(first, both).pvalue)
    back = tellapart.evaluate(other, data, against=tiny_bundle).as_json()["against"]
    assert (back["only_first"], back["only_second"]) == (against["only_second"], against["only_first"])
    same = tellapart.evaluate(tiny_bundle, data, against=tiny_bundle).as_json()["against"]
    assert (same["difference"], same["only_first"], same["only_second"], same["p"]) == (0.0, 0, 0, 1.0)
    assert "against" not in tellapart.evaluate(tiny_bundle, data).as_json()


def test_a_bundle_that_lacks_a_class_is_not_compared(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "other")
    (tmp_path / "other" / "ants").rename(tmp_path / "other" / "wasps")
    other = tellapart.train(tmp_path / "other", out=tmp_path / "run", method="majority").bundle
    with pytest.raises(DataError, match=r"'ants', which the other bundle does not know"):
        tellapart.evaluate(tiny_bundle, photos, against=other)
