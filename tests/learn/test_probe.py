from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.events import Decision
from tellapart.images import at_least_for
from tellapart.judge import softmax
from tellapart.learn.backbones_export import Graph
from tellapart.learn.embed import embed, missing
from tellapart.learn.majority import colour_trunk
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Fitted, Head, Pictures
from tellapart.recipe import Recipe

Run = Callable[..., Any]
SHARED = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="module")
def colours() -> Graph:
    """A backbone that sees 16 mean colours: cheap, and blind to nothing that these tests ask."""
    model = colour_trunk()
    digest = hashlib.sha256(model).hexdigest()
    return Graph(model, "colours", Path("/nowhere"), 32, 48, (0.0,) * 3, (1.0,) * 3, "bilinear", "mit", "none", digest)


def lit(
    folder: Path, count: int, side: str, *, counts: tuple[int, int] | None = None, levels: tuple[int, int] = (60, 190)
) -> Pictures:
    """Pictures of two classes, lit from the left or the right (`side="left or right"`), or from above or below."""
    folder.mkdir(parents=True)
    targets = np.repeat([0, 1], counts or (count // 2, count - count // 2))
    ramp = np.linspace(*levels, 32)[None, :, None]
    files = []
    for index, target in enumerate(targets):
        rng = np.random.default_rng([index, len(side)])
        light = ramp if target == 0 else ramp[:, ::-1]
        if side == "above or below":
            light = light.transpose(1, 0, 2)
        noise = rng.normal(0, 30, (32, 32, 3)) + rng.normal(0, 45, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        files.append(folder / f"{index}.png")
        Image.fromarray(np.clip(light + noise, 0, 255).astype(np.uint8)).save(files[-1])
    digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return Pictures(tuple(files), digests, digests, targets.astype(np.int64))


def fit(
    run: Run, graph: Graph, train: Pictures, val: Pictures, cache: Path, left: float | None = None, **options: Any
) -> tuple[Fitted, dict[str, Decision]]:
    seen: list[Any] = []
    clock = None if left is None else (lambda: left)
    fitted = run(probe(graph, graph.preprocess("squash"), train, val, 2, Recipe.of(**options), cache, clock), seen)
    return fitted, {event.name: event for event in seen if isinstance(event, Decision)}


def test_it_tells_classes_apart_and_says_what_it_rests_on(
    run: Run, colours: Graph, photo_pictures: Pictures, tmp_path: Path
) -> None:
    train, val = photo_pictures.take(np.arange(0, 48, 2)), photo_pictures.take(np.arange(1, 48, 2))
    fitted, decisions = fit(run, colours, train, val, tmp_path)
    assert (fitted.head.logits(fitted.embeddings["val"]).argmax(axis=1) == val.targets).all()
    assert fitted.out_of_fold.rows.tolist() == list(range(24))
    assert (fitted.out_of_fold.logits.argmax(axis=1) == train.targets).all()
    assert fitted.held_out.tolist() == list(range(24))
    preprocess = colours.preprocess("squash")
    alone = run(embed(colours.model, preprocess, val.files, val.digests, None))
    assert fitted.embeddings["val"].tobytes() == alone.tobytes()
    assert (fitted.method, fitted.backbone, fitted.licence) == ("probe", "colours", "mit")
    assert (fitted.trunk, fitted.preprocess) == (colours.model, preprocess)
    assert list(decisions) == ["balance", "flip", "penalty"]
    assert fitted.details["penalty"] == decisions["penalty"].value


def test_without_a_validation_split_there_are_no_embeddings_of_it(
    run: Run, colours: Graph, photo_pictures: Pictures, tmp_path: Path
) -> None:
    fitted, _ = fit(run, colours, photo_pictures, _none(), tmp_path)
    assert fitted.embeddings["val"].shape == (0, 48)


def test_mirrored_views_are_refused_where_left_is_not_right(run: Run, colours: Graph, tmp_path: Path) -> None:
    train = lit(tmp_path / "a", 60, "left or right")
    fitted, decisions = fit(run, colours, train, _none(), tmp_path / "cache")
    assert decisions["flip"].value is False
    assert fitted.details["flip"] is False
    assert (fitted.out_of_fold.logits.argmax(axis=1) == train.targets).mean() > 0.8


def test_mirrored_views_are_added_where_they_help(run: Run, colours: Graph, tmp_path: Path) -> None:
    train = lit(tmp_path / "a", 60, "above or below")
    fitted, decisions = fit(run, colours, train, _none(), tmp_path / "cache")
    assert decisions["flip"].value is True
    assert "standard error better" in decisions["flip"].evidence
    assert fitted.embeddings["train"].shape == (60, 48)
    assert len(fitted.out_of_fold.logits) == 60
    flipped = fitted.preprocess
    assert missing(colours.model, flipped, train.digests, tmp_path / "cache", flip=True) == []


def test_mirrored_views_that_the_time_does_not_allow_are_left_out(run: Run, colours: Graph, tmp_path: Path) -> None:
    train = lit(tmp_path / "a", 640, "above or below")
    fitted, decisions = fit(run, colours, train, _none(), tmp_path / "cache", left=1e-9)
    assert fitted.details["flip"] is False
    assert "are left" in decisions["flip"].evidence
    assert len(missing(colours.model, fitted.preprocess, train.digests, tmp_path / "cache", flip=True)) > 100
    fitted, _ = fit(run, colours, train, _none(), tmp_path / "cache", left=1e9)
    assert fitted.details["flip"] is True


@pytest.mark.parametrize("wish", ["on", "off"])
def test_the_user_s_word_on_flips_is_final(
    run: Run, colours: Graph, photo_pictures: Pictures, tmp_path: Path, wish: str
) -> None:
    fitted, decisions = fit(run, colours, photo_pictures, _none(), tmp_path, flip=wish)
    assert fitted.details["flip"] is (wish == "on")
    assert "--flip" in decisions["flip"].evidence


def test_mirrored_pictures_are_off_by_the_option_that_was_given(
    run: Run, colours: Graph, photo_pictures: Pictures, tmp_path: Path
) -> None:
    fitted, decisions = fit(run, colours, photo_pictures, _none(), tmp_path, augment="none")
    assert fitted.details["flip"] is False
    assert decisions["flip"].evidence == "asked for by --augment none"


def test_a_head_that_learned_from_unlabelled_pictures_learned_from_no_mirrored_views(
    run: Run, colours: Graph, tmp_path: Path
) -> None:
    every = lit(tmp_path / "a", 660, "above or below", levels=(105, 145))
    order = np.random.default_rng(1).permutation(660)
    train, rest = every.take(np.sort(order[:100])), every.take(np.sort(order[100:]))
    told = {}
    for name, others in (("with", rest), ("without", None)):
        seen: list[Any] = []
        recipe, preprocess, cache = Recipe.of(flip="on"), colours.preprocess("squash"), tmp_path / "cache"
        told[name] = run(probe(colours, preprocess, train, _none(), 2, recipe, cache, unlabelled=others), seen)
        learned = [event.value for event in seen if isinstance(event, Decision) and event.name == "unlabelled"]
        assert learned == ([True] if name == "with" else [])
    assert told["with"].details["flip"] is False
    assert told["without"].details["flip"] is True


def test_an_uneven_class_gets_more_weight(run: Run, colours: Graph, tmp_path: Path) -> None:
    # Labels that mean nothing: an honest head gives the shares, a weighted one halves.
    same = lit(tmp_path / "a", 0, "above or below", counts=(132, 0))
    probs = {}
    for ones in (12, 60):
        train = dataclasses.replace(same, targets=(np.arange(132) % (132 // ones) == 0).astype(np.int64))
        fitted, _ = fit(run, colours, train, _none(), tmp_path / "cache", flip="off")
        probs[ones] = softmax(fitted.out_of_fold.logits)[:, 1].mean()
        assert (fitted.details["balance"] != "none") is (ones == 12)
    assert probs[12] == pytest.approx(0.5, abs=0.1)


def _none() -> Pictures:
    return Pictures((), (), (), np.zeros(0, dtype=np.int64))


def test_a_second_run_gives_the_same_bits_from_the_cache(
    run: Run, colours: Graph, photo_pictures: Pictures, tmp_path: Path
) -> None:
    first, second = (fit(run, colours, photo_pictures, _none(), tmp_path / cache)[0] for cache in ("a", "a"))
    other = fit(run, colours, photo_pictures, _none(), tmp_path / "b")[0]
    for again in (second, other):
        assert isinstance(again.head, Head)
        assert isinstance(first.head, Head)
        assert again.head.weight.tobytes() == first.head.weight.tobytes()
        assert again.out_of_fold.logits.tobytes() == first.out_of_fold.logits.tobytes()


def test_once_the_graph_is_cached_neither_torch_nor_scikit_learn_is_loaded(
    exported: tuple[Graph, Path], weights_root: Path, photos: Path, tmp_path: Path
) -> None:
    _, cache = exported
    program = """
import hashlib, sys
from pathlib import Path
import numpy as np
from tellapart.learn.backbones import find_weights
from tellapart.learn.backbones_export import start_export
from tellapart.learn.majority import majority
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Pictures
from tellapart.recipe import Recipe

def run(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value

photos, graphs, cache = map(Path, sys.argv[1:])
files = tuple(sorted(photos.glob("*/*.png")))
digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
pictures = Pictures(files, digests, digests, np.array([file.parent.name == "bees" for file in files]).astype(np.int64))
graph = run(start_export(find_weights("test_efficientnet"), None, graphs).wait())
preprocess = graph.preprocess("squash")
run(majority(pictures, pictures, 2, preprocess, Recipe()))
fitted = run(probe(graph, preprocess, pictures, pictures, 2, Recipe(), cache))
assert (fitted.out_of_fold.logits.argmax(axis=1) == pictures.targets).mean() > 0.9
print(sorted({"torch", "torchvision", "timm", "sklearn", "scipy", "onnxscript"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(photos), str(cache), str(tmp_path)],
        env={**os.environ, "TELLAPART_WEIGHTS": str(weights_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.weights
def test_real_photographs_are_told_apart(run: Run, tmp_path: Path) -> None:
    from tellapart.learn.backbones import find_weights
    from tellapart.learn.backbones_export import start_export

    archive, folder = SHARED / "data" / "hymenoptera.tar", SHARED / "weights" / "mobilenetv2_100"
    if not archive.is_file() or not folder.is_dir():
        pytest.skip(f"{archive} and {folder} are needed")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    weights = find_weights(f"local-dir:{folder}")
    assert weights is not None
    graph = run(start_export(weights, None, tmp_path / "cache").wait())
    splits = {}
    for split in ("train", "test"):
        files = tuple(sorted((tmp_path / "hymenoptera" / split).glob("*/*")))
        digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        targets = np.array([file.parent.name == "bees" for file in files]).astype(np.int64)
        splits[split] = Pictures(files, digests, digests, targets)
    preprocess = graph.preprocess("crop", at_least_px=at_least_for(graph.image_size))
    fitted = run(
        probe(graph, preprocess, splits["train"], splits["test"], 2, Recipe.of(flip="off"), tmp_path / "cache")
    )
    predicted = fitted.head.logits(fitted.embeddings["val"]).argmax(axis=1)
    assert (predicted == splits["test"].targets).mean() >= 0.96
