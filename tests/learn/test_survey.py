"""Sets of pictures made so that one change destroys the label: a survey finds that change and no other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tellapart.events import Decision, Progress
from tellapart.learn.augmentation import Augment, preset
from tellapart.learn.probe import probe
from tellapart.learn.survival import survival
from tellapart.learn.torch_finetune import finetune
from tellapart.learn.torch_survey import chosen, surveyed
from tellapart.recipe import AugmentOptions, Recipe
from tests.learn.conftest import pictures_in

SIDE, COUNT = 32, 160
ALL = ["flip", "turn", "any_turn", "crop", "light", "hue", "grey", "detail"]
HOW = dataclasses.replace(preset("strong", SIDE), brightness=0.2, contrast=0.2)


def pictures(
    draw: Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of two classes, a little moved, turned and noisy, on backgrounds of any brightness."""
    rng = np.random.default_rng(seed)
    made, targets = [], np.arange(COUNT) % 2
    for label in targets.tolist():
        ground = int(rng.integers(120, 200))
        picture = Image.new("RGB", (SIDE, SIDE), (ground, ground, ground))
        draw(ImageDraw.Draw(picture), label, rng)
        picture = picture.rotate(float(rng.uniform(-8, 8)), Image.Resampling.BILINEAR, fillcolor=(ground,) * 3)
        noise = rng.normal(0, 4, (SIDE, SIDE, 3))
        made.append(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
    return np.stack(made), targets


def six_or_nine(draw: ImageDraw.ImageDraw, label: int, rng: np.random.Generator) -> None:
    font = ImageFont.load_default(22)
    place = (SIDE / 2 + rng.uniform(-2, 2), SIDE / 2 + rng.uniform(-2, 2))
    draw.text(place, "69"[label], fill=(20, 20, 20), font=font, anchor="mm")


def arrow(draw: ImageDraw.ImageDraw, label: int, rng: np.random.Generator) -> None:
    x, y, way = 16 + rng.uniform(-2, 2), 16 + rng.uniform(-2, 2), 1 if label else -1
    draw.line([(x - 9 * way, y), (x + 6 * way, y)], fill=(20, 20, 20), width=3)
    draw.polygon([(x + 11 * way, y), (x + 3 * way, y - 6), (x + 3 * way, y + 6)], fill=(20, 20, 20))


def disc(colours: tuple[tuple[int, int, int], tuple[int, int, int]]) -> Any:
    def draw(on: ImageDraw.ImageDraw, label: int, rng: np.random.Generator) -> None:
        x, y, r = 16 + rng.uniform(-2, 2), 16 + rng.uniform(-2, 2), 9 + rng.uniform(-1, 1)
        shade = rng.uniform(0.8, 1.1)
        fill = tuple(int(min(255, shade * value)) for value in colours[label])
        on.ellipse([x - r, y - r, x + r, y + r], fill=fill)

    return draw


RIPE = disc(((205, 60, 50), (198, 78, 30)))  # two reds that differ in hue alone, by 14 degrees, at the same luma


@pytest.mark.parametrize(
    ("draw", "lost"),
    [(six_or_nine, {"any_turn"}), (arrow, {"flip", "any_turn"}), (RIPE, {"hue", "grey"})],
    ids=["six and nine", "arrows", "two colours of one shape"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_set_loses_the_change_that_destroys_its_labels_and_no_other(
    run: Any, draw: Any, lost: set[str], seed: int
) -> None:
    found = run(surveyed(*pictures(draw, seed), ALL, HOW, "survey"))
    off = {change for change, one in found.items() if not one.survives}
    if draw is six_or_nine:
        off.discard("flip")  # a mirrored six is no digit at all: either answer is right
    assert off == lost
    for change in lost:
        assert found[change].plain > 0.9
        assert found[change].changed < 0.9


def decided(
    run: Any, wish: AugmentOptions, draw: Any = arrow, auto: Augment = HOW
) -> tuple[Augment, dict[str, Decision]]:
    seen: list[Any] = []
    found = run(chosen(wish, auto, SIDE, "scratch", *pictures(draw), None), seen)
    return found, {event.name: event for event in seen if isinstance(event, Decision)}


def test_what_labels_do_not_survive_is_turned_off_and_said(run: Any) -> None:
    found, decisions = decided(run, AugmentOptions())
    assert found == dataclasses.replace(HOW, flip=False)
    assert decisions["scratch.flip"].value is False
    assert "mirrored: 100% right as they are, 0% changed: no longer" in decisions["scratch.flip"].evidence
    assert decisions["scratch.augment"].value["labels_do_not_survive"] == ["flip", "any_turn"]
    found, decisions = decided(run, AugmentOptions(), RIPE)
    assert found == dataclasses.replace(HOW.less(["hue", "grey"]), turn=180.0), "a disc may be turned to any side"
    assert "in other hues" in decisions["scratch.augment"].evidence
    assert decisions["scratch.augment"].value["labels_do_not_survive"] == ["hue", "grey"]


def test_six_and_nine_are_not_turned_to_any_side_and_that_is_said(run: Any) -> None:
    found, decisions = decided(run, AugmentOptions(), six_or_nine)
    assert found.turn == HOW.turn < 180.0
    assert "any_turn" in decisions["scratch.augment"].value["labels_do_not_survive"]
    assert "turn" not in decisions["scratch.augment"].value["labels_do_not_survive"]
    evidence = decisions["scratch.augment"].evidence
    assert f"turned by up to {HOW.turn:g} degrees" in evidence
    assert re.search("turned to any side: [^;]*: no longer", evidence)


def test_every_change_that_is_done_is_named() -> None:
    how = preset("strong", SIDE)
    for field in dataclasses.fields(Augment):
        alone = dataclasses.replace(Augment(), **{field.name: getattr(how, field.name)})
        assert alone.words != "nothing", field.name
    assert "stretched by up to 20%" in how.words


@pytest.mark.parametrize(
    ("draw", "lost"),
    [(arrow, ["flip", "any_turn"]), (RIPE, ["hue", "grey"])],
    ids=["arrows", "two colours of one shape"],
)
def test_a_change_that_is_not_done_by_itself_is_asked_about_and_told(run: Any, draw: Any, lost: list[str]) -> None:
    seen: list[Any] = []
    light = preset("light", SIDE)
    found = run(chosen(AugmentOptions(), light, SIDE, "scratch", *pictures(draw), None), seen)
    told = next(event for event in seen if isinstance(event, Decision) and event.name == "scratch.augment")
    assert told.value == {"labels_do_not_survive": lost}
    assert found.less(["turn"]) == light.less(set(lost) - {"any_turn"})


def test_the_user_s_word_on_changes_is_final(run: Any) -> None:
    assert decided(run, AugmentOptions(flip="on"))[0] == HOW
    assert decided(run, AugmentOptions(augment="none"))[0] == Augment()
    assert decided(run, AugmentOptions(augment="none", flip="on"))[0] == Augment(flip=True)
    strong, decisions = decided(run, AugmentOptions(augment="strong"), RIPE)
    assert strong == preset("strong", SIDE), "a preset is taken as it is"
    assert decisions["scratch.augment"].value == "strong"


def test_a_few_pictures_are_no_evidence_and_nothing_that_needs_some_is_done(run: Any) -> None:
    pixels, targets = pictures(RIPE)
    seen: list[Any] = []
    found = run(chosen(AugmentOptions(), HOW, SIDE, "scratch", pixels[:10], targets[:10], None), seen)
    assert found == HOW.less(["flip", "turn", "hue", "grey"])


def test_a_change_that_costs_no_more_than_chance_explains_survives() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(200) % 2
    plain = targets[:, None] + rng.normal(0, 0.3, (200, 4))
    nearly = plain + rng.normal(0, 0.05, plain.shape)
    found = survival(plain, nearly, targets, learned=False)
    assert found.survives
    swapped = survival(plain, plain[::-1].copy(), targets, learned=True)
    assert not swapped.survives


def test_where_there_is_time_the_backbone_itself_is_asked(run: Any, exported: Any, tmp_path: Path) -> None:
    pixels, targets = pictures(arrow)
    for number, picture in enumerate(pixels):
        folder = tmp_path / "arrows" / "lr"[targets[number]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    train = pictures_in(tmp_path / "arrows")
    graph, folder = exported
    none, cache, recipe = train.take(np.empty(0, np.int64)), tmp_path / "cache", Recipe.of(epochs=1)
    made = run(probe(graph, graph.preprocess("squash"), train, none, 2, recipe, cache, threads=1))
    told = {}
    for after_the_cut in (0.01, 1e4):
        seen: list[Any] = []
        left = [1e4]

        def clock(left: list[float] = left) -> float:
            return left[0]

        steps = finetune(made, graph.folder, train, none, 2, recipe, cache, clock, 1)
        for event in steps:
            seen.append(event)
            if isinstance(event, Decision) and event.name == "finetune.cut":
                left[0] = after_the_cut
            if isinstance(event, Decision) and event.name == "finetune.augment":
                break
        steps.close()
        decisions = {event.name: event for event in seen if isinstance(event, Decision)}
        shown = sum(isinstance(event, Progress) and event.stage == "finetune.survey" for event in seen)
        told[after_the_cut] = decisions, shown
    decisions, shown = told[1e4]
    assert decisions["finetune.survey"].value == COUNT
    assert shown > 4 * COUNT, "each change was shown to the backbone"
    assert decisions["finetune.flip"].value is False
    assert "mirrored" in decisions["finetune.flip"].evidence
    decisions, shown = told[0.01]
    assert decisions["finetune.survey"].value == 0
    assert "too few, so small pictures are asked" in decisions["finetune.survey"].evidence
    assert shown < COUNT, "a step a change, no picture of it"
