"""A search over recipes: never worse than the recipe as it is, resumable, and blind to the test split."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.cli.options import read_recipe
from tellapart.errors import DataError, RecipeError
from tellapart.events import Event, Progress
from tellapart.ladder.openings import OPENED
from tellapart.ladder.study import Study, Tried, Within
from tellapart.ladder.tune import Tuned
from tellapart.ladder.tune_space import chosen, default_values, knobs
from tellapart.recipe import Recipe
from tellapart.report.tune_page import render_tuned

from ..conftest import write_photos

pytest.importorskip("optuna", reason="needs the extra [tune]")

QUICK: dict[str, Any] = {"method": "classical", "budget": "10m"}  # far more than is needed, for slow machines


@pytest.fixture(autouse=True)
def _no_weights_by_accident(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_search_ends_in_a_recipe_that_train_takes_and_opens_no_test_split(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "search"
    found = tellapart.tune(photos, trials=3, out=out, **QUICK)
    assert [trial.number for trial in found.trials] == [0, 1, 2]
    assert found.trials[0].default
    assert found.best.loss is not None
    assert found.default.loss is not None
    assert found.best.loss <= found.default.loss
    assert found.best.loss == min(trial.loss for trial in found.trials if trial.loss is not None)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert not [event for event in events if event.get("name") == OPENED]
    recipe = read_recipe(found.recipe)
    assert recipe.model_dump() == Recipe.parse(json.loads(found.best.recipe)).model_dump()
    assert (
        tellapart.train(photos, out=tmp_path / "run", recipe=recipe, robustness="off").result["method"] == "classical"
    )
    page = found.page.read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in page
    assert "<script" not in page
    assert json.loads(json.dumps(found.as_json()))["best"]["number"] == found.best.number

    kept = {"best.json", "events.jsonl", "manifest.jsonl", "search.json", "tune.db", "tune.html"}
    assert {path.name for path in out.iterdir()} == kept

    # It goes on where it was, and only with what it began with. What a killed trial left is not for another one.
    (out / "trial" / "checkpoints").mkdir(parents=True)
    (out / "trial" / "checkpoints" / "0.pt").write_bytes(b"of another recipe")
    again = tellapart.tune(photos, trials=4, out=out, **QUICK)
    assert again.trials[:3] == found.trials
    assert len(again.trials) == 4
    assert not (out / "trial").exists()
    with pytest.raises(RecipeError, match="other options"):
        tellapart.tune(photos, trials=4, out=out, method="majority")


def test_case_99_a_search_is_not_gone_on_with_on_pictures_that_have_changed(photos: Path, tmp_path: Path) -> None:
    photos, out = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "search"
    tellapart.tune(photos, trials=1, out=out, **QUICK)
    there = sorted((photos / "bees").iterdir())[0]
    there.rename(photos / "bees/new.png")
    (out / "STOP").touch()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    with pytest.raises(DataError) as refused:
        tellapart.tune(photos, trials=2, out=out, **QUICK)
    assert (refused.value.code, refused.value.exit_code) == ("other_data", 2)
    told = f"1 file was added (bees/new.png), 1 file was removed (bees/{there.name})"
    assert told in refused.value.message
    assert "--out" in refused.value.next
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    (photos / "bees/new.png").rename(there)
    assert len(tellapart.tune(photos, trials=2, out=out, **QUICK).trials) == 2


def test_an_interrupted_search_keeps_the_best_so_far_and_makes_the_trial_again(photos: Path, tmp_path: Path) -> None:
    begun = 0

    def watch(event: Event) -> None:
        nonlocal begun
        if isinstance(event, Progress) and event.stage == "tune":
            begun += 1
        elif begun == 2 and isinstance(event, Progress):
            begun += 1
            os.kill(os.getpid(), signal.SIGINT)

    found = tellapart.tune(photos, trials=5, out=tmp_path / "search", watch=watch, **QUICK)
    assert found.exit_code == 130
    assert [trial.number for trial in found.trials] == [0]
    assert found.recipe.is_file()
    again = tellapart.tune(photos, trials=2, out=tmp_path / "search", **QUICK)
    assert again.exit_code == 0
    assert len(again.trials) == 2


def test_a_trial_that_was_killed_is_made_again_with_the_same_values(tmp_path: Path) -> None:
    searched = knobs(Recipe(), ["a", "b"], networks=True, uneven=False, seconds=600.0)
    default = default_values(searched, Recipe())
    with Study(tmp_path / "tune.db", 0, default) as first:
        assert chosen(first.begin(), searched, Recipe(), 60.0) == Recipe.of(budget=60.0)
        first.end(0.5, 10, "validation", "probe", Recipe())
        lost = chosen(first.begin(), searched, Recipe(), 60.0)  # and then the power goes
    with Study(tmp_path / "tune.db", 0, default) as second:
        assert second.num_ended == 1
        assert chosen(second.begin(), searched, Recipe(), 60.0) == lost
        second.end(0.4, 10, "validation", "probe", lost)
        assert [trial.loss for trial in second.trials] == [0.5, 0.4]


def test_the_same_search_proposes_the_same(tmp_path: Path) -> None:
    searched = knobs(Recipe(), ["a", "b"], networks=True, uneven=True, seconds=600.0)
    told: list[list[Recipe]] = []
    for name in ("first", "second"):
        with Study(tmp_path / f"{name}.db", 3, default_values(searched, Recipe())) as study:
            recipes = []
            for number in range(6):
                recipes.append(chosen(study.begin(), searched, Recipe(), 60.0))
                study.end(0.5 - 0.01 * number, 10, "validation", "probe", recipes[-1])
            told.append(recipes)
    assert told[0] == told[1]
    assert len({recipe.model_dump_json() for recipe in told[0]}) > 3


def test_a_trial_far_behind_the_others_is_cut_short_but_never_the_default_one(tmp_path: Path) -> None:
    with Study(tmp_path / "tune.db", 0, {}) as study:
        for _ in range(5):
            study.begin()
            assert not any(study.is_hopeless("finetune", epoch, 0.5) for epoch in (1, 2, 3))
            study.end(0.5, 10, "validation", "finetune", Recipe())
        study.begin()
        assert not study.is_hopeless("scratch", 2, 0.9), "no other trial is of that method"
        study.end(0.5, 10, "validation", "scratch", Recipe())
        study.begin()
        assert not study.is_hopeless("scratch", 2, 1.9), "one other is too few"
        study.end(0.5, 10, "validation", "scratch", Recipe())
        study.begin()
        assert study.is_hopeless("finetune", 2, 0.9)
        study.prune()
        assert [trial.pruned for trial in study.trials] == [False] * 7 + [True]


def losses_by_epoch(out: Path) -> list[dict[int, float]]:
    """Return what each trial of a search noted after its epochs, in order."""
    import optuna

    study = optuna.load_study(study_name="tellapart", storage=f"sqlite:///{out / 'tune.db'}")
    return [trial.intermediate_values for trial in study.get_trials()]


def test_a_search_ends_a_trial_early_that_is_far_behind_others_of_its_network(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "scratch", "epochs": 4, "image_size": 16, "budget": "30m"}
    out = tmp_path / "search"
    assert tellapart.tune(photos, trials=1, out=out, **options).default.loss is not None
    with Study(out / "tune.db", 0, {}) as study:
        for _ in range(4):  # better after each epoch than any real one is
            study.begin()
            assert not any(study.is_hopeless("scratch", epoch, 1e-6) for epoch in range(1, 5))
            study.end(1.0, 10, "validation", "scratch", Recipe())
    found = tellapart.tune(photos, trials=6, out=out, **options)
    assert [trial.number for trial in found.trials if trial.pruned] == [5]
    assert found.trials[5].loss is None
    assert found.trials[5].why == "cut short: worse by then than the middle one"
    assert found.trials[5].why in found.page.read_text(encoding="utf-8")
    assert [len(noted) for noted in losses_by_epoch(out)] == [4, 4, 4, 4, 4, 1]


def test_a_network_of_a_trial_that_climbs_other_rungs_too_is_not_held_against_it(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", each=160)  # enough for `auto` to climb `scratch` without pretrained weights
    options: dict[str, Any] = {"epochs": 1, "image_size": 16, "test": 0.0, "val": 0.05, "budget": "10m"}
    trained = set()

    def watch(event: Event) -> None:
        if isinstance(event, Progress):
            trained.add(event.stage)

    found = tellapart.tune(tmp_path / "photos", trials=1, out=tmp_path / "search", watch=watch, **options)
    assert found.default.loss is not None
    assert "scratch" in trained
    assert losses_by_epoch(tmp_path / "search") == [{}]


def test_what_the_user_gave_is_not_searched() -> None:
    names = {knob.name for knob in knobs(Recipe.of(resize="pad"), ["a"], True, False, 600.0)}
    assert "resize" not in names
    assert {"method", "flip", "backbone", "lr"} <= names
    assert {knob.name for knob in knobs(Recipe.of(method="classical"), ["a"], True, False, 600.0)} == {"resize", "flip"}


@pytest.mark.parametrize("method", ["auto", pytest.param("finetune", marks=pytest.mark.promise), "scratch"])
def test_how_pictures_are_varied_and_every_way_to_balance_are_searched_where_networks_are_trained(
    method: str, tmp_path: Path
) -> None:
    base = Recipe.of(method=method)
    searched = knobs(base, ["a"], networks=True, uneven=True, seconds=600.0)
    found = {knob.name: knob for knob in searched}
    assert set(found["augment"].choices) == {"auto", "none", "light", "standard", "strong"}
    assert set(found["balance"].choices) == {"auto", "none", "weights", "logit", "sampler"}
    with Study(tmp_path / "tune.db", 0, default_values(searched, base)) as study:
        recipes = []
        for _ in range(30):
            recipes.append(chosen(study.begin(), searched, base, 600.0))
            study.end(0.5, 10, "validation", "scratch", recipes[-1])
    varied = {recipe.model.method for recipe in recipes if recipe.augment.augment != "auto"}
    assert varied == ({"finetune", "scratch"} if method == "auto" else {method})
    for name, low, high in (("finetune", 1e-5, 3e-2), ("scratch", 0.01, 1.0)):
        of_it = [recipe.fit for recipe in recipes if recipe.model.method == name]
        rates = [fit.lr for fit in of_it if fit.lr is not None]
        assert bool(rates) == bool({fit.schedule for fit in of_it} >= {"cosine"}) == (method in ("auto", name))
        assert all(low <= rate <= high for rate in rates)
    assert {"sampler", "logit"} <= {recipe.fit.balance for recipe in recipes}


@pytest.mark.parametrize(("method", "networks"), [("probe", True), ("classical", True), ("auto", False)])
def test_a_head_alone_is_not_asked_about_sampling_nor_varied_pictures(method: str, networks: bool) -> None:
    found = {knob.name: knob for knob in knobs(Recipe.of(method=method), ["a"], networks, uneven=True, seconds=600.0)}
    assert set(found["balance"].choices) == {"auto", "none", "weights", "logit"}
    assert "augment" not in found


def made_up(path: Path, losses: Callable[[Recipe], float], count: int, seed: int = 0) -> tuple[Study, list[Recipe]]:
    """Return a search of `count` trials that gave what `losses` says of their recipes."""
    searched = knobs(Recipe(), ["a", "b"], networks=True, uneven=False, seconds=600.0)
    study = Study(path, seed, default_values(searched, Recipe()))
    recipes = []
    for _ in range(count):
        recipes.append(chosen(study.begin(), searched, Recipe(), 600.0))
        method = "probe" if recipes[-1].model.method == "auto" else recipes[-1].model.method
        study.end(losses(recipes[-1]), 10, "validation", method, recipes[-1])
    return study, recipes


def best_of(study: Study) -> Tried:
    return min(study.trials, key=lambda trial: trial.loss if trial.loss is not None else math.inf)


@pytest.mark.promise
def test_what_mattered_within_the_best_method_knows_of_the_options_of_its_own(tmp_path: Path) -> None:
    def loss(recipe: Recipe) -> float:
        if recipe.model.method != "finetune":
            return 1.0 if recipe.data.resize == "pad" else 0.9
        return {"linear": 0.5, "mlp": 0.3, "cosine": 0.1}[recipe.model.head] + (recipe.model.pooling == "gem") / 50

    study, recipes = made_up(tmp_path / "tune.db", loss, 40)
    with study:
        best, altogether = best_of(study), study.importance()
        found = study.within(best)
    assert best.values["method"] == "finetune"
    assert "head" not in altogether
    assert found is not None
    assert (found.method, found.num_trials) == ("finetune", sum(r.model.method == "finetune" for r in recipes))
    assert next(iter(found.importance)) == "head"
    assert found.importance["head"] > 0.8
    assert {"lr", "backbone", "image_size", "pooling", "tune", "schedule", "augment", "flip"} <= {*found.importance}
    assert "method" not in found.importance
    assert sum(found.importance.values()) == pytest.approx(1.0)

    def tuned(within: Within | None) -> Tuned:
        default, out = study_trials[0], tmp_path
        shown = {name: (value,) for name, value in best.values.items()}
        return Tuned(
            *(out, out / "best.json", out / "tune.html", study_trials, best, default, "log loss", altogether),
            *(within, shown, 1.0, "words"),
        )

    study_trials = (dataclasses.replace(best, number=0, default=True), best)
    page = render_tuned(tuned(found))
    second = page[page.index("trials of") :]
    assert f"Among the {found.num_trials} trials of" in page
    assert second.index(">head<") < second.index(">pooling<") < second.index('id="trials"')
    assert json.loads(json.dumps(tuned(found).as_json()))["within"] == dataclasses.asdict(found)
    assert "Too few trials of the best one" in render_tuned(tuned(None))


def test_what_mattered_within_a_method_needs_five_trials_of_it_and_a_method_that_is_searched(tmp_path: Path) -> None:
    study, _ = made_up(tmp_path / "tune.db", lambda recipe: 0.1 if recipe.model.method == "scratch" else 0.9, 5)
    with study:
        assert study.within(best_of(study)) is None
        assert study.within(dataclasses.replace(best_of(study), values={"flip": "on"})) is None


def test_a_best_trial_of_auto_is_told_by_the_rung_that_was_best_in_it(tmp_path: Path) -> None:
    study, recipes = made_up(tmp_path / "tune.db", lambda recipe: 0.1 if recipe.data.resize == "auto" else 0.9, 40)
    with study:
        best = next(trial for trial in study.trials if trial.default)
        found = study.within(best)
    assert best.values["method"] == "auto"
    assert best.method == "probe"
    assert found is not None
    assert (found.method, found.num_trials) == ("probe", sum(r.model.method == "probe" for r in recipes))
    assert {"backbone", "image_size"} <= {*found.importance}


def test_a_folder_with_something_else_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds no search"):
        tellapart.tune(photos, out=tmp_path / "mine", **QUICK)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_search_whose_file_is_damaged_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tune.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="cannot be read as a search"):
        Study(tmp_path / "tune.db", 0, {})


def test_any_path_can_hold_a_search(tmp_path: Path) -> None:
    odd = tmp_path / "50% of #1?"
    odd.mkdir()
    with Study(odd / "tune.db", 0, {}) as study:
        study.begin()
        study.end(0.5, 10, "validation", "probe", Recipe())
    assert [path.name for path in odd.iterdir()] == ["tune.db"]
