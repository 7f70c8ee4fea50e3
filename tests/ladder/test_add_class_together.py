"""A class is added to bundles whose answer is that of several networks, or was learned from a larger one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

import tellapart
from tellapart.driving import finish
from tellapart.ladder import known
from tellapart.ladder.choose import Candidate
from tellapart.ladder.deliver import deliver
from tellapart.ladder.rungs import Rungs
from tellapart.learn.backbones import Weights
from tellapart.learn.backbones_export import Graph
from tellapart.learn.embed import embed, missing
from tellapart.learn.merged import scales_of
from tellapart.runtime.bundle import Bundle
from tests.ladder.test_add_class import answers
from tests.ladder.test_distil import distilled, probe
from tests.ladder.test_ensemble import SIDE, made, rungs, together, trunk_of_planes

__all__ = ["rungs"]


@pytest.fixture
def greens(tmp_path: Path) -> Path:
    """Pictures of a class that neither colour of the others tells alone."""
    (tmp_path / "greens").mkdir()
    for number in range(30):
        rng = np.random.default_rng([7, number])
        level = np.array([128, 220, 128]) + rng.normal(0, 6, 3)
        pixels = np.clip(level + rng.normal(0, 2, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "greens" / f"{number}.png")
    return tmp_path / "greens"


def shipped(rungs: Rungs, winner: Candidate | None) -> Bundle:
    assert winner is not None
    rungs.manifest.write(rungs.run.folder / "manifest.jsonl")
    return finish(deliver(rungs.run, rungs.manifest, rungs.pictures, winner, 1))


def ensemble_of(rungs: Rungs, *methods: str) -> Bundle:
    members = [made(rungs, [0, 1]), made(rungs, [2])]
    members = [
        dataclasses.replace(one, fitted=dataclasses.replace(one.fitted, method=method))
        for one, method in zip(members, methods, strict=True)
    ]
    told, _ = together(rungs, members)
    assert told.better
    return shipped(rungs, told.candidate)


def test_an_ensemble_learns_a_class_and_all_old_pictures_tell_what_it_costs(
    rungs: Rungs, greens: Path, tmp_path: Path
) -> None:
    old = ensemble_of(rungs, "probe", "probe")
    added = tellapart.add_class(old.path, "lawn", greens, out=tmp_path / "new")
    assert added.source == "run"
    assert added.notes == ()
    found = added.measured
    assert found.cost is not None
    assert found.before is not None
    assert found.after is not None
    assert found.cost.n == len(rungs.pictures["train"]) + len(rungs.pictures["val"])
    assert found.after > found.before - 0.02
    assert answers(tmp_path / "new", greens) == ["lawn"] * 30
    new = Bundle(tmp_path / "new")
    assert (new.card.method, new.card.backbone) == ("ensemble", "rg + b")
    members = cast(dict[str, object], new.card.recipe["details"])["members"]
    assert members == [{"method": "probe", "backbone": "rg"}, {"method": "probe", "backbone": "b"}]
    # And once more, from its references alone.
    (tmp_path / "teal").mkdir()
    for number in range(6):
        Image.new("RGB", (SIDE, SIDE), (20, 180 + number, 240)).save(tmp_path / "teal" / f"{number}.png")
    again = tellapart.add_class(new.path, "teal", tmp_path / "teal", out=tmp_path / "newer")
    assert again.source == "references"
    assert again.measured.cost is not None
    assert len(set(answers(tmp_path / "newer", greens))) == 1


def test_where_a_member_learned_from_the_pictures_only_those_it_never_saw_tell(
    rungs: Rungs, greens: Path, tmp_path: Path
) -> None:
    old = ensemble_of(rungs, "probe", "finetune")
    added = tellapart.add_class(old.path, "lawn", greens, out=tmp_path / "new")
    assert added.measured.cost is not None
    assert added.measured.cost.n == len(rungs.pictures["val"])


def test_a_distilled_network_learns_a_class_by_labels_and_says_so(rungs: Rungs, greens: Path, tmp_path: Path) -> None:
    tried = [probe(rungs, [0, 1], dear=True), probe(rungs, [1, 2])]
    told, _ = together(rungs, tried)
    assert told.candidate is not None
    _, ships, _ = distilled(rungs, tried, told.candidate)
    old = shipped(rungs, ships)
    assert old.card.method == "distill"
    added = tellapart.add_class(old.path, "lawn", greens, out=tmp_path / "new")
    assert [note for note in added.notes if "labels alone" in note and "--distill" in note]
    assert added.measured.cost is not None
    assert added.measured.cost.n == len(rungs.pictures["train"]) + len(rungs.pictures["val"])
    new = Bundle(tmp_path / "new")
    assert new.card.method == "probe"
    assert not {"taught_by", "softening"} & set(cast(dict[str, object], new.card.recipe["details"]))
    assert tellapart.add_class(new.path, "blank", _blank(tmp_path), out=tmp_path / "newer").notes == ()


def _blank(place: Path) -> Path:
    (place / "blank").mkdir()
    for number in range(3):
        Image.new("RGB", (SIDE, SIDE), (255, 255, 250 - number)).save(place / "blank" / f"{number}.png")
    return place / "blank"


def test_what_the_run_has_cached_of_each_member_is_not_computed_again(
    rungs: Rungs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, cache = ensemble_of(rungs, "probe", "probe"), rungs.run.cache
    graphs = {"rg": trunk_of_planes([0, 1]), "b": trunk_of_planes([2])}

    def weights(name: str) -> Weights:
        return cast(Weights, name)

    def cached(name: Weights, image_size: int | None, folder: Path) -> Graph:
        sees = bundle.preprocess
        facts = (cast(str, name), Path(), SIDE, 1, sees.mean, sees.std, sees.interpolation, None, "", "")
        return Graph(graphs[cast(str, name)], *facts)

    monkeypatch.setattr(known, "find_weights", weights)
    monkeypatch.setattr(known, "cached_graph", cached)
    trunk, train = known.trunk_for(bundle, cache), rungs.pictures["train"]
    assert [part.graph for part in trunk.parts] == list(graphs.values())
    assert [part.scale for part in trunk.parts] == scales_of(bundle.model)
    assert [missing(part.graph, part.preprocess, train.digests, cache) for part in trunk.parts] == [[], []]
    seen = finish(trunk.embed(train.files, train.digests, cache, 1))
    whole = finish(embed(trunk.whole, bundle.preprocess, train.files, train.digests, None, threads=1))
    np.testing.assert_allclose(seen, whole, rtol=1e-6)
    # Another network under the same name is none of its parts.
    graphs["b"] = trunk_of_planes([1])
    other = known.trunk_for(bundle, cache)
    assert [part.graph for part in other.parts] == [other.whole]
    again = finish(other.embed(train.files, train.digests, tmp_path, 1))
    np.testing.assert_allclose(again, whole, rtol=1e-6)
