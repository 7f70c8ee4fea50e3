"""A bundle learns one class more: what it knew it keeps, what that costs is told, nothing of the user's is changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart
from tellapart.data.manifest import Manifest
from tellapart.errors import BundleError, DataError, InputError
from tellapart.learn.refit import directions, of_directions
from tellapart.learn.rungs import Fitted, Head
from tellapart.runtime import Bundle

Write = Callable[..., Bundle]


def write_frogs(folder: Path, number: int = 12, tint: tuple[int, int, int] = (40, 200, 60)) -> Path:
    """Write green pictures, PNG files of 32x32 px."""
    folder.mkdir(parents=True)
    for index in range(number):
        noise = np.random.default_rng([*tint, index]).integers(-40, 40, (32, 32, 3))
        Image.fromarray(np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def frogs(tmp_path: Path) -> Path:
    return write_frogs(tmp_path / "frogs")


@pytest.fixture
def run(photos: Path, write_tiny_bundle: Write, tmp_path: Path) -> Path:
    """A run folder whose manifest lists a copy of `photos`, with its bundle."""
    shutil.copytree(photos, tmp_path / "photos")
    manifest = Manifest.scan(tmp_path / "photos")
    (tmp_path / "run").mkdir()
    manifest.write(tmp_path / "run" / "manifest.jsonl")
    write_tiny_bundle(tmp_path / "run" / "bundle", fingerprint=manifest.fingerprint)
    return tmp_path / "run"


def answers(bundle: Path, pictures: Path) -> list[str]:
    return [found.label for found in tellapart.predict(bundle, pictures) if hasattr(found, "label")]


def test_the_new_class_is_known_and_the_old_ones_still_are(run: Path, frogs: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "bundle").iterdir()}
    added = tellapart.add_class(run / "bundle", "frogs", frogs, out=tmp_path / "new")
    assert added.source == "run"
    assert answers(tmp_path / "new", frogs) == ["frogs"] * 12
    for label in ("ants", "bees"):
        assert answers(tmp_path / "new", run.parent / "photos" / label) == [label] * 24
    new, old = Bundle(tmp_path / "new"), Bundle(run / "bundle")
    assert new.classes == ("ants", "bees", "frogs")
    assert new.card.lineage["parent"]
    assert new.card.lineage["added"]["class"] == "frogs"
    assert new.card.fingerprint != old.card.fingerprint
    assert {path.name: path.read_bytes() for path in (run / "bundle").iterdir()} == before
    assert added.measured.recall is not None
    assert (added.measured.recall.hits, added.measured.recall.n) == (12, 12)
    cost = added.measured.cost
    assert cost is not None
    # The test split was not opened: of 48 pictures, those of train and val.
    assert cost.n == len([row for row in Manifest.read(run / "manifest.jsonl").rows if row.split != "test"])


def test_without_a_name_the_new_bundle_lies_beside_the_old_one(run: Path, frogs: Path) -> None:
    added = tellapart.add_class(run / "bundle", "tree frogs/green", frogs)
    assert added.bundle == run / "bundle-tree-frogs-green"
    assert Bundle(added.bundle).classes == ("ants", "bees", "tree frogs/green")
    with pytest.raises(InputError) as refused:
        tellapart.add_class(run / "bundle", "tree frogs/green", frogs)
    assert refused.value.code == "out_not_empty"


def test_references_stand_for_pictures_that_are_not_at_hand(tiny_bundle: Path, frogs: Path, tmp_path: Path) -> None:
    added = tellapart.add_class(tiny_bundle, "frogs", frogs, out=tmp_path / "new")
    assert added.source == "references"
    assert added.measured.cost is not None
    assert added.measured.cost.n == 24
    new, old = Bundle(tmp_path / "new"), Bundle(tiny_bundle)
    assert set(answers(tmp_path / "new", frogs)) == {"frogs"}
    assert len(new.reference.reference_labels) == len(old.reference.reference_labels) + 12
    assert new.reference.thumbnail(0) == old.reference.thumbnail(0)
    # And again, from a bundle that was made so.
    write_frogs(tmp_path / "newts", tint=(230, 220, 20))
    again = tellapart.add_class(tmp_path / "new", "newts", tmp_path / "newts", out=tmp_path / "newer")
    assert again.classes == ("ants", "bees", "frogs", "newts")
    assert set(answers(tmp_path / "newer", frogs)) == {"frogs"}


def test_what_a_class_takes_from_the_old_ones_is_told(run: Path, tmp_path: Path) -> None:
    """Pictures that look like ants cost the ants: fewer of them are right than before, and the loss is theirs."""
    twins = write_frogs(tmp_path / "twins", 24, tint=(121, 60, 40))
    added = tellapart.add_class(run / "bundle", "mites", twins, out=tmp_path / "new")
    found = added.measured
    assert found.cost is not None
    assert found.before is not None
    assert found.after is not None
    assert found.before > 0.9
    assert found.cost.difference == pytest.approx(found.after - found.before)
    assert found.cost.low <= found.cost.difference < 0
    assert found.now_new[0][0] == "ants"
    assert added.taken_for == (("ants", 24),)
    told = json.loads(json.dumps(added.as_json()))
    assert told["old"]["n"] == found.cost.n
    assert told["new"]["recall"]["low"] <= told["new"]["recall"]["value"] <= told["new"]["recall"]["high"]


def test_one_picture_is_enough_and_nothing_is_claimed_of_it(run: Path, tmp_path: Path) -> None:
    one = write_frogs(tmp_path / "one", 1)
    added = tellapart.add_class(run / "bundle", "frogs", one, out=tmp_path / "new")
    assert added.measured.recall is None
    assert answers(tmp_path / "new", one) == ["frogs"]


def test_without_its_pictures_a_run_falls_back_to_references(run: Path, frogs: Path, tmp_path: Path) -> None:
    shutil.rmtree(run.parent / "photos")
    assert tellapart.add_class(run / "bundle", "frogs", frogs, out=tmp_path / "new").source == "references"


def test_data_named_is_used_with_the_split_it_had(run: Path, photos: Path, frogs: Path, tmp_path: Path) -> None:
    shutil.rmtree(run.parent / "photos")
    added = tellapart.add_class(run / "bundle", "frogs", frogs, out=tmp_path / "new", data=photos)
    assert added.source == "data"
    kept = [row for row in Manifest.read(run / "manifest.jsonl").rows if row.split != "test"]
    assert added.measured.cost is not None
    assert added.measured.cost.n == len(kept)
    strange = tmp_path / "strange"
    shutil.copytree(photos, strange)
    (strange / "bees").rename(strange / "wasps")
    with pytest.raises(DataError) as refused:
        tellapart.add_class(run / "bundle", "frogs", frogs, out=tmp_path / "other", data=strange)
    assert refused.value.code == "other_classes"


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("known name", "class_known"),
        ("known but for case", "class_known"),
        ("blank name", "class_name"),
        ("nothing usable", "no_pictures"),
        ("old pictures", "old_pictures"),
        ("old pictures saved anew", "old_pictures"),
        ("full folder", "out_not_empty"),
        ("inside the pictures", "out_inside_data"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(
    run: Path, frogs: Path, tmp_path: Path, case: str, code: str
) -> None:
    label, out, pictures = "frogs", tmp_path / "new", frogs
    if case == "known name":
        label = "ants"
    elif case == "known but for case":
        label = "ANTS"
    elif case == "blank name":
        label = " "
    elif case == "nothing usable":
        (frogs / "text.png").write_text("words")
        pictures = frogs / "text.png"
    elif case.startswith("old pictures"):
        old = run.parent / "photos" / "bees" / "03.png"
        if case.endswith("anew"):
            Image.open(old).save(frogs / "again.png", compress_level=1)
            assert (frogs / "again.png").read_bytes() != old.read_bytes()
        else:
            shutil.copy(old, frogs)
    elif case == "full folder":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    elif case == "inside the pictures":
        out = frogs / "new"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as refused:
        tellapart.add_class(run / "bundle", label, pictures, out=out)
    assert refused.value.code == code
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_that_looks_at_nothing_or_kept_nothing_is_refused(
    write_tiny_bundle: Write, tiny_fitted: Fitted, frogs: Path, tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"fitted": dataclasses.replace(tiny_fitted, method="majority")}, "no_embedding"),
        ({"thumbnails": None}, "no_references"),
        ({"recipe": {"details": {"learner": "support_vector_machine"}}}, "no_references"),
    ]
    for number, (changes, code) in enumerate(cases):
        bundle = write_tiny_bundle(tmp_path / f"{number}", **changes)
        with pytest.raises(BundleError) as refused:
            tellapart.add_class(bundle.path, "frogs", frogs, out=tmp_path / "new")
        assert refused.value.code == code


def test_a_network_that_learned_from_the_references_is_told(
    write_tiny_bundle: Write, tiny_fitted: Fitted, frogs: Path, tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "old", fitted=dataclasses.replace(tiny_fitted, method="scratch"))
    added = tellapart.add_class(bundle.path, "frogs", frogs, out=tmp_path / "new")
    assert any("too good" in note for note in added.notes)


def test_a_head_on_directions_is_the_head_on_what_was_scaled(tiny_fitted: Fitted) -> None:
    random = np.random.default_rng(3)
    head = Head(random.normal(size=(5, 4)).astype(np.float32), random.normal(size=4).astype(np.float32))
    mean = random.normal(size=5).astype(np.float32)
    X = np.concatenate([random.normal(size=(9, 5)).astype(np.float32) * 7, mean[None]])
    unit = (X[:9] - mean) / np.linalg.norm(X[:9] - mean, axis=1, keepdims=True)
    expected = np.concatenate([unit @ head.weight + head.bias, head.bias[None]])
    np.testing.assert_allclose(of_directions(head, mean).logits(X), expected, atol=1e-5)
    np.testing.assert_allclose(head.logits(directions(X, mean)), expected, atol=1e-5)


def test_the_command_line_says_what_it_cost(tiny_bundle: Path, frogs: Path, tmp_path: Path, capsys) -> None:
    from tellapart.cli import main

    assert main(["add-class", str(tiny_bundle), "frogs", str(frogs), "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    for words in ("frogs: 12 pictures", "references", "Old classes:", "New class:", "95% interval", "The new bundle:"):
        assert words in out
    assert main(["add-class", str(tiny_bundle), "frogs", str(frogs), "--out", str(tmp_path / "n2"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        *("version", "bundle", "parent", "classes", "added", "counts", "source", "old", "new", "taken_for", "seconds")
    ]
