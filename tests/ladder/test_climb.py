"""The whole climb, from Python: what is evaluated is what ships, and a second run does nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tellapart
from tellapart.data import Manifest
from tellapart.errors import GateError, MissingExtraError, RecipeError, TellapartError
from tellapart.events import Decision, Event
from tellapart.judge import metrics, softmax
from tellapart.ladder.climb import _steps as rungs_of
from tellapart.ladder.clock import Clock
from tellapart.ladder.deliver import deliver
from tellapart.ladder.openings import OPENED
from tellapart.ladder.plan import Plan, Rung
from tellapart.ladder.run import Run
from tellapart.ladder.rungs import Rungs
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Predictor
from tellapart.ship import with_metrics
from tests.conftest import write_photos

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
BACKBONE = "mobilenetv2_035"


@pytest.fixture(autouse=True)
def _no_weights_by_accident(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_run_keeps_everything_that_explains_it(photos: Path, tmp_path: Path) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", method="majority", budget="60s")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        *("recipe.json", "resolved.json", "run.json", "manifest.jsonl", "events.jsonl"),
        *("bundle", "report.html", "report.json", "result.json"),
    }
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == run.result
    assert Manifest.read(tmp_path / "run" / "manifest.jsonl").counts == run.result["counts"]
    resolved = json.loads((tmp_path / "run" / "resolved.json").read_text())
    assert resolved["data"]["resize"] != "auto"
    assert resolved["model"]["method"] == "majority"
    assert run.summary is not None
    assert run.summary.asked == json.loads((tmp_path / "run" / "recipe.json").read_text())


def test_a_test_split_is_opened_once_a_run_and_the_second_opening_is_told(photos: Path, tmp_path: Path) -> None:
    openings: list[list[Event]] = []
    for _ in range(2):
        seen: list[Event] = []
        run = tellapart.train(photos, out=tmp_path / f"{len(openings)}", method="majority", watch=seen.append)
        openings.append([event for event in seen if isinstance(event, Decision) and event.name == OPENED])
        assert run.summary is not None
        assert run.summary.test_openings == len(openings)
    assert [len(events) for events in openings] == [1, 1]


def test_pictures_keep_their_split_when_a_later_run_is_told_of_an_earlier_one(photos: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    tellapart.train(photos, out=first, method="majority", seed=1)
    second = tmp_path / "second"
    tellapart.train(photos, out=second, method="majority", seed=2, previous=str(first))
    before, after = (Manifest.read(run / "manifest.jsonl") for run in (first, second))
    assert [(row.path, row.split) for row in before.rows] == [(row.path, row.split) for row in after.rows]


def test_without_weights_the_run_says_so_in_one_line(photos: Path, tmp_path: Path) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", effort="quick", budget="8s")
    assert run.summary is not None
    assert len([note for note in run.summary.notes if "Without pretrained weights" in note]) == 1


def test_an_interrupted_resumption_never_replaces_a_better_model(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = tellapart.train(photos, out=run, method="majority", budget="60s")
    card = Bundle(run / "bundle").card
    better = {**first.result["val"], "log_loss": 0.01}
    with_metrics(run / "bundle", {"val": better, "test": None})
    again = tellapart.train(photos, out=run, method="majority", budget="90s", resume=True)
    assert again.result == first.result
    assert again.summary is None or again.summary.asked["data"]["previous"] is None
    assert Bundle(run / "bundle").card.metrics["val"] == better
    assert Bundle(run / "bundle").card.lineage == card.lineage


def test_a_budget_that_ends_before_the_pictures_are_read_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="too short to read these pictures"):
        tellapart.train(photos, out=tmp_path / "run", budget="60s", spent_already=59.5)
    assert not (tmp_path / "run").exists()


def test_without_a_validation_split_no_number_is_of_pictures_that_were_learned_from(
    photos: Path, tmp_path: Path
) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", method="majority", val=0.0, test=0.0)
    assert run.result["val"] is run.result["test"] is None
    assert [rung["val"] for rung in run.result["ladder"]] == [None]
    assert run.summary is not None
    assert any("left out in turn" in note for note in run.summary.notes)


def test_a_missing_extra_is_told_before_the_pictures_are_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    seen: list[Event] = []
    with pytest.raises(MissingExtraError, match=r"tellapart\[train\]"):
        tellapart.train(photos, out=tmp_path / "run", watch=seen.append)
    assert seen == []
    assert not (tmp_path / "run").exists()


def test_a_device_that_cannot_be_used_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--device got .mps., and torch .* finds no such device here"):
        tellapart.train(photos, out=tmp_path / "run", device="mps")


def test_a_bundle_without_pictures_answers_all_the_same(photos: Path, tmp_path: Path) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", method="majority", reference=False)
    bundle = Bundle(run.bundle)
    assert bundle.reference.thumbnails is None
    assert len(bundle.reference.novelty_reference) == 2
    assert next(iter(tellapart.predict(run.bundle, photos))).as_json()["novelty"] <= 1.0


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the probe, made in a process of its own; its caches are `cache` beside it."""
    if not (WEIGHTS / BACKBONE).is_dir():
        pytest.skip(f"needs the backbones in {WEIGHTS}")
    place = tmp_path_factory.mktemp("probe")
    shutil.copytree(photos, place / "photos")
    return train_apart(place, "first")


@pytest.mark.weights
def test_the_reported_numbers_come_from_the_bundle(trained: Path) -> None:
    manifest = Manifest.read(trained / "manifest.jsonl")
    predictor = Predictor(Bundle(trained / "bundle"))
    result = json.loads((trained / "result.json").read_text())
    for split in ("val", "test"):
        rows = manifest.where(split=split)
        logits = np.stack([output[0] for output in predictor.outputs(map(manifest.file, rows))])  # type: ignore[index]
        targets = np.array([manifest.classes.index(row.label) for row in rows])
        found = metrics(targets, softmax(logits)).as_json()
        assert found == pytest.approx(result[split], abs=1e-5)
    assert result["test"]["accuracy"] == 1.0


@pytest.mark.weights
def test_evaluate_gives_the_numbers_that_train_reported(trained: Path) -> None:
    manifest = Manifest.read(trained / "manifest.jsonl")
    lines = ["path,label", *(f"{row.path},{row.label}" for row in manifest.where(split="test"))]
    (manifest.root / "test.csv").write_text("\n".join(lines) + "\n")
    found = tellapart.evaluate(trained / "bundle", manifest.root / "test.csv").as_json()
    result = json.loads((trained / "result.json").read_text())
    assert {name: found[name] for name in result["test"]} == pytest.approx(result["test"], abs=1e-5)


@pytest.mark.weights
def test_a_warm_run_of_the_probe_imports_no_torch_embeds_nothing_and_ships_the_same_model(trained: Path) -> None:
    again = train_apart(trained.parent, "second")
    assert json.loads((again.parent / "second.modules").read_text()) == []
    events = [json.loads(line) for line in (again / "events.jsonl").read_text().splitlines()]
    assert all("export" not in str(event.get("stage")) for event in events)
    assert (again / "bundle" / "model.onnx").read_bytes() == (trained / "bundle" / "model.onnx").read_bytes()


def train_apart(place: Path, name: str) -> Path:
    """Train in a fresh process with the caches of `place`; keep which heavy modules it had loaded at its end."""
    code = f"""
import json, os, sys
os.environ |= {{"TELLAPART_WEIGHTS": {str(WEIGHTS)!r}, "TELLAPART_CACHE": {str(place / "cache")!r}}}
import tellapart
options = {{"backbone": {BACKBONE!r}, "effort": "quick", "method": "probe"}}
tellapart.train({str(place / "photos")!r}, out={str(place / name)!r}, **options)
heavy = sorted({{"torch", "torchvision", "timm", "sklearn", "scipy", "pandas"}} & set(sys.modules))
open({str(place / f"{name}.modules")!r}, "w").write(json.dumps(heavy))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    return place / name


def test_corrupted_pictures_are_measured_within_a_run_where_asked(photos: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"method": "classical", "effort": "quick", "val": 0.0, "test": 0.5, "folds": "off"}
    write_photos(tmp_path / "photos", each=52)
    run = tellapart.train(tmp_path / "photos", out=tmp_path / "on", robustness="on", **asked)
    assert run.summary is not None
    found = run.summary.robustness
    assert len(found) == 15
    assert {one.n for one in found} == {run.result["test"]["n"]}
    assert "robustness-h" in (tmp_path / "on" / "report.html").read_text()
    off = tellapart.train(tmp_path / "photos", out=tmp_path / "off", robustness="off", **asked)
    assert off.summary is not None
    assert off.summary.robustness == ()
    few = tellapart.train(photos, out=tmp_path / "few", robustness="on", **asked)
    assert few.summary is not None
    assert ("robustness", 0) in [(name, value) for name, value, _ in few.summary.decisions]


@pytest.mark.parametrize(
    ("balance", "counts", "alike"),
    [
        ("auto", (24, 8), True),
        ("none", (24, 8), False),
        ("auto", (24, 20), False),
        ("weights", (24, 20), True),
        ("logit", (24, 8), True),
    ],
)
def test_whether_classes_count_alike_is_the_user_s_to_say(
    photos: Path, tmp_path: Path, balance: str, counts: tuple[int, int], alike: bool
) -> None:
    for label, count in zip(("ants", "bees"), counts, strict=True):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(count):
            shutil.copy(photos / label / f"{number:02d}.png", tmp_path / "photos" / label)
    run = tellapart.train(
        tmp_path / "photos", out=tmp_path / "run", method="classical", effort="quick", balance=balance, folds=2
    )
    assert run.summary is not None
    decisions = {name: value for name, value, _ in run.summary.decisions}
    assert decisions["balance"] in (["weights", "logit"] if balance == "auto" and alike else [balance, "none"])
    assert (decisions["balance"] == "none") is not alike
    assert str(decisions["selection_metric"]).startswith("macro") is alike
    assert run.summary.balanced is alike
    assert ("balanced accuracy" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8").lower()) or not alike


def test_a_picture_under_two_labels_is_left_out_unless_the_user_says_otherwise(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(photos / "ants" / "00.png", tmp_path / "photos" / "bees" / "twin.png")
    dropped = tellapart.train(tmp_path / "photos", out=tmp_path / "drop", method="majority")
    kept = tellapart.train(tmp_path / "photos", out=tmp_path / "keep", method="majority", two_labels="keep")
    assert (dropped.result["counts"]["used"], dropped.result["counts"]["excluded"]) == (47, 2)
    assert (kept.result["counts"]["used"], kept.result["counts"]["excluded"]) == (49, 0)
    assert dropped.summary is not None
    assert kept.summary is not None
    assert [value for name, value, _ in dropped.summary.decisions if name == "two_labels"] == ["drop"]
    assert [value for name, value, _ in kept.summary.decisions if name == "two_labels"] == ["keep"]
    assert any(note.startswith("2 file(s) hold a picture that is in two classes") for note in kept.summary.notes)
    twins = [
        row for row in Manifest.read(tmp_path / "keep" / "manifest.jsonl").rows if row.path[-6:] in ("00.png", "in.png")
    ]
    assert len({(row.group, row.split) for row in twins if row.path != "bees/00.png"}) == 1


def test_the_best_effort_looks_through_three_backbones_and_tunes_the_first(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", 3), ("b", 9), ("c", 6), ("d", 5)):  # nothing loads them
        (tmp_path / "weights" / name).mkdir(parents=True)
        save_file({"w": np.zeros(size, np.float16)}, tmp_path / "weights" / name / "model.safetensors")
        config = {"architecture": "any", "pretrained_cfg": {"input_size": [3, 64, 64]}}
        (tmp_path / "weights" / name / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "weights"))
    run = Run(photos, tmp_path / "run", tmp_path / "cache", Recipe.of(effort="best"), Clock(3600.0))
    chosen = Plan(tuple(Rung(method, True, "") for method in ("majority", "probe", "finetune", "scratch")))
    steps = [(rung.method, backbone) for rung, backbone in rungs_of(run, chosen)]
    others = [("probe", "a"), ("probe", "c")]  # beside "b", the largest
    assert steps == [("majority", None), ("probe", None), *others, ("finetune", None), ("scratch", None)]


@pytest.mark.parametrize("where", ["climbed", "shipped"])
@pytest.mark.parametrize(
    "error", [TellapartError("export_failed", "No exporter did.", ""), GateError("graph", "It is no graph.", "")]
)
def test_a_rung_that_cannot_be_exported_or_shipped_leaves_the_best_so_far(
    error: TellapartError, where: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "shipped" and not isinstance(error, GateError):
        pytest.skip("nothing is exported where bundles are written")

    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        raise error

    def delivered(run: Any, manifest: Any, pictures: Any, winner: Any, threads: int) -> Any:
        if winner.fitted.method != "majority":
            raise error
        return (yield from deliver(run, manifest, pictures, winner, threads))

    if where == "climbed":
        monkeypatch.setattr(Rungs, "_classical", refuse)
    else:
        monkeypatch.setattr("tellapart.ladder.climb.deliver", delivered)
    run = tellapart.train(photos, out=tmp_path / "run", method="classical", budget="60s", robustness="off")
    assert run.result["method"] == "majority"
    assert len(Bundle(run.bundle).card.classes) == 2
    assert run.summary is not None
    assert [note for note in run.summary.notes if error.message in note]
    assert [rung.method for rung in run.summary.ladder if rung.chosen] == ["majority"]
    assert any(error.message in f"{rung.skipped}{rung.words}" for rung in run.summary.ladder)
