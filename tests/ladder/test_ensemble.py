"""Rungs that answer together: one bundle, its answers those of its members, kept only where it is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import tellapart
from tellapart import judge
from tellapart.data import scan
from tellapart.driving import finish
from tellapart.events import Decision, Event
from tellapart.images import Preprocess
from tellapart.ladder.choose import Candidate, Ground, candidate
from tellapart.ladder.clock import Clock
from tellapart.ladder.deliver import deliver
from tellapart.ladder.ensemble import Together, ensemble
from tellapart.ladder.run import Run, pictures_of
from tellapart.ladder.rungs import Rungs
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import Fitted, FloatArray, OutOfFold
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle

SIDE = 8
PREPROCESS = Preprocess(image_size=SIDE, interpolation="bilinear")


def trunk_of_planes(planes: Sequence[int]) -> bytes:
    """Return a trunk that sees some of the colours alone, with their map."""
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["levels"], ["all"], perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["all", "seen"], ["feature_map"], axis=1),
        helper.make_node("GlobalAveragePool", ["feature_map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    width = len(planes)
    graph = helper.make_graph(
        nodes,
        "planes",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["n", width, SIDE, SIDE]),
        ],
        [helper.make_tensor("seen", TensorProto.INT64, [width], list(planes))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="module")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> Rungs:
    """Two classes whose red and blue each say a little, by themselves."""
    place = tmp_path_factory.mktemp("ensemble")
    rng = np.random.default_rng(0)
    for label, sign in (("dusk", -1), ("noon", 1)):
        (place / "photos" / label).mkdir(parents=True)
        for number in range(150):
            level = 128 + sign * np.array([9, 0, 9]) + rng.normal(0, 10, 3)
            pixels = np.clip(level + rng.normal(0, 2, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / "photos" / label / f"{number}.png")
    recipe = Recipe.of(budget="10m", min_side=4, effort="best")
    (place / "run").mkdir()
    run = Run(place / "photos", place / "run", place / "cache", recipe, Clock(600.0))
    manifest = finish(scan(run.data, recipe, run.cache))
    return Rungs(run, manifest, pictures_of(manifest), PREPROCESS, None, 1)


def ground_of(rungs: Rungs) -> Ground:
    return Ground(rungs.pictures["train"].targets, rungs.pictures["val"].targets, balanced=False)


def made(rungs: Rungs, planes: Sequence[int], preprocess: Preprocess = PREPROCESS) -> Candidate:
    """Return a probe on some colours, fitted as probes are."""
    trunk, train = trunk_of_planes(planes), rungs.pictures["train"]
    embeddings: dict[str, FloatArray] = {
        str(split): finish(embed(trunk, preprocess, part.files, part.digests, rungs.run.cache, threads=1))
        for split, part in rungs.pictures.items()
        if split != "test"
    }
    folds = make_folds(train.targets, train.groups)
    linear = finish(fit_linear(embeddings["train"], train.targets, 2, folds, None))
    fitted = Fitted(
        method="probe",
        trunk=trunk,
        head=linear.head,
        preprocess=preprocess,
        out_of_fold=OutOfFold(linear.rows, linear.out_of_fold),
        embeddings=embeddings,
        held_out=np.arange(len(train)),
        backbone="".join("rgb"[plane] for plane in planes),
    )
    rows = {split: np.arange(len(part), dtype=np.int64) for split, part in rungs.pictures.items()}
    return candidate(fitted, ground_of(rungs), rows, 1.0)


def together(rungs: Rungs, climbed: Sequence[Candidate]) -> tuple[Together, list[Event]]:
    seen: list[Event] = []
    return finish(ensemble(rungs.run, rungs, climbed, climbed[0], ground_of(rungs)), seen.append), seen


def test_models_that_know_different_things_ship_as_one_bundle_that_answers_as_they_do_together(rungs: Rungs) -> None:
    members = [made(rungs, [0, 1]), made(rungs, [2])]
    told, seen = together(rungs, members)
    assert told.better
    winner = told.candidate
    assert winner is not None
    assert winner.fitted.backbone == "rg + b"
    decided = {event.name: event for event in seen if isinstance(event, Decision)}
    assert decided["ensemble"].value is True
    assert "ms a picture" in decided["ensemble"].evidence
    shares = decided["ensemble_members"].value
    bundle = finish(deliver(rungs.run, rungs.manifest, rungs.pictures, winner, 1))
    assert bundle.card.method == "ensemble"
    assert bundle.card.outputs == ("logits", "embedding", "feature_map")
    pictures = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    answered = bundle.session.run(pictures)
    # The graph's answer is that of its members, each in its share, at one temperature.
    from tellapart.runtime.session import Session

    parts = [
        share / one.temperature * one.fitted.head.logits(Session(one.fitted.trunk).run(pictures)["embedding"])
        for one, share in zip(members, shares.values(), strict=True)
    ]
    gaps = [part[:, 1] - part[:, 0] for part in (sum(parts), answered["logits"])]
    assert np.corrcoef(gaps[0], gaps[1])[0, 1] > 0.9999
    np.testing.assert_allclose(answered["embedding"], answered["feature_map"].mean((2, 3)), rtol=1e-5)
    # What counted was seen by no model, and no weight, that learned from it.
    truth = rungs.pictures["train"].targets[winner.out_of_fold_rows]
    alone = [judge.metrics(truth, one.out_of_fold_probs()).log_loss for one in members]
    mixed = judge.metrics(truth, winner.out_of_fold_probs()).log_loss
    assert mixed is not None
    assert all(one is not None and mixed < one for one in alone)


def test_a_model_that_adds_nothing_is_not_kept_and_the_run_says_why(rungs: Rungs) -> None:
    told, _ = together(rungs, [made(rungs, [0, 2]), made(rungs, [1])])
    assert not told.better
    assert "the best of 2 models alone" in told.words or "no clear difference" in told.words


def test_models_that_are_shown_pictures_in_other_ways_share_no_graph(rungs: Rungs) -> None:
    padded = Preprocess(image_size=SIDE, interpolation="bilinear", resize_policy="pad")
    told, _ = together(rungs, [made(rungs, [0]), made(rungs, [2], padded)])
    assert told.candidate is None
    assert "is shown pictures in another way" in told.words


def test_graphs_of_different_ages_become_one() -> None:
    from tellapart.learn.merged import merged
    from tellapart.runtime.session import Session

    old = onnx.load_model_from_string(trunk_of_planes([0]))
    newer = onnx.version_converter.convert_version(old, 18).SerializeToString()
    pictures = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    both = Session(merged([trunk_of_planes([1, 2]), newer], [2.0, 0.5])).run(pictures)
    means = pictures.astype(np.float32).mean((1, 2))
    np.testing.assert_allclose(both["embedding"], means[:, [1, 2, 0]] * [2.0, 2.0, 0.5], rtol=1e-5)
    onnx.checker.check_model(merged([trunk_of_planes([1, 2]), newer], [2.0, 0.5]), full_check=True)


def test_best_effort_averages_networks_and_says_what_came_of_it(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "scratch", "effort": "best", "epochs": 2, "image_size": 8, "threads": 1}
    run = tellapart.train(photos, out=tmp_path / "run", budget="5m", **options)
    assert run.summary is not None
    row = run.summary.ladder[-1]
    assert row.method == "soup"
    assert row.seconds > 0.0
    if row.skipped is None:
        assert "It is as large, and as fast, as scratch alone." in row.words
        assert ("better." in row.words.partition(" validation loss")[0]) == row.chosen
    else:
        assert "the first network alone is the best" in row.skipped
    decided = {name for name, _, _ in run.summary.decisions}
    assert {"scratch.soup.more", "scratch.soup"} <= decided
    assert run.bundle is not None
    assert Bundle(run.bundle).card.method == ("soup" if row.chosen else run.summary.method)
