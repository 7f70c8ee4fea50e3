"""What stands before a backbone is tuned: where it is cut, what it is shown, how its training begins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tellapart import files
from tellapart.errors import OutOfTimeError, RecipeError
from tellapart.events import Decision, Progress, Recall, Steps, decide
from tellapart.images import Preprocess, map_ordered
from tellapart.learn.augmentation import Augment, preset
from tellapart.learn.balancing import balancing
from tellapart.learn.cuts import EMBEDDING, Cut, Place, Sums, choose_cut
from tellapart.learn.draws import bits, picture_keys
from tellapart.learn.folds import parts
from tellapart.learn.linear import fit_path
from tellapart.learn.rungs import Fitted, Head, IntArray, Pictures
from tellapart.learn.schedule import batch_size_for, shape_of
from tellapart.learn.torch_activations import MOST_BYTES, activations
from tellapart.learn.torch_balancing import balanced
from tellapart.learn.torch_batches import Samples, Varied, decode_all
from tellapart.learn.torch_export import Trunk, load_trunk
from tellapart.learn.torch_heads import begun_from
from tellapart.learn.torch_mix import Mix
from tellapart.learn.torch_norms import reestimated_on
from tellapart.learn.torch_profile import profiled
from tellapart.learn.torch_stages import blocks, exported_below, is_sound
from tellapart.learn.torch_step import Choices
from tellapart.learn.torch_survey import Eye, chosen
from tellapart.learn.torch_task import Clock, Task, measured
from tellapart.learn.torch_tuned import BnPolicy, Tuned, check_pooling, optimizer_for
from tellapart.learn.torch_validate import validated
from tellapart.learn.torch_where import varied_where_faster
from tellapart.learn.torch_world import ALONE, World
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session

__all__ = ["Ground", "head_of", "loaded", "prepared"]

_FITS = 1.7  # how many times the pictures are trained on: one fold of two thirds is counted
_EPOCHS = 30
_DROPOUT, _DROP_PATH = 0.2, 0.1  # where the backbone takes them
_AVERAGE, _CLIP = 0.98, 5.0
_WARMUP, _STABLE = 0.1, 0.3
_TIMED_AT = 1e-5  # the rate of steps that are but timed
_BN_BATCHES, _BN_SHARE = 10, 0.1  # that statistics come from, and of the time left that comparing them may take
_BN_BATCH = 16  # pictures; the statistics of fewer are too noisy to train by
_WHOLE_BATCH = 16  # pictures that go through a whole network at a time: more would not fit into caches and memory
_PENALTY = 0.03
_AUTO = "light"  # the preset that is the start of --augment auto
_SURVEY_SHARE, _SURVEY_LOOKS, _SURVEY_LEAST = 0.05, 9, 100  # of the time; looks at a picture; pictures
_SAMPLE, _SAMPLE_PX = 500, 64  # pictures that are asked whether mirroring keeps their class, and their side


@dataclasses.dataclass(frozen=True)
class Ground:
    """What stands before a cut is chosen: the backbone, where the probe left it, what things cost."""

    trunk: Trunk
    probe: Fitted
    folder: Path
    train: Pictures
    val: Pictures
    num_classes: int
    recipe: Recipe
    cache: Path
    threads: int
    embed_seconds: float
    world: World = ALONE

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are made ready."""
        return self.probe.preprocess


def loaded(folder: Path, image_size: int) -> Trunk:
    """Return the trunk with dropout and stochastic depth, as far as the backbone knows them; it says which it has."""
    for options in ({"drop_rate": _DROPOUT, "drop_path_rate": _DROP_PATH}, {"drop_rate": _DROPOUT}):
        try:
            trunk = load_trunk(folder, image_size, **options)
        except TypeError:
            continue
        trunk.drops = options
        return trunk
    return load_trunk(folder, image_size)


def prepared(ground: Ground, left: Clock) -> Steps[tuple[Task[Tuned], Cut]]:
    """Return the task, its optimizer made for a rate of 1, and where the backbone is cut, what is below being cached.

    Raises OutOfTimeError where there is no time for any cut, RecipeError where pooling cannot be as asked for.
    """
    recipe, preprocess, name = ground.recipe, ground.preprocess, "finetune"
    if recipe.model.pooling == "gem":
        check_pooling(ground.trunk, preprocess.image_size, _named(ground))
    known = ground.train.targets, ground.train.groups
    folds, held_out = parts(*known, len(ground.val), recipe.seed, recipe.data.folds)
    cut, below = yield from _cut(ground, left, 1.0 if len(held_out) else _FITS)
    augment = yield from _augment(ground, left)
    samples = []
    for pictures, views in ((ground.train, cut.num_views), (ground.val, 1)):
        source: Varied | object
        if cut.name is None:
            pixels = yield from decode_all(pictures.files, preprocess, 3, ground.threads)
            source = Varied(pixels, augment)
        else:
            output = EMBEDDING if cut.name == EMBEDDING else "activations"
            source = yield from activations(
                below, preprocess, pictures, augment, views, ground.cache, ground.threads, output
            )
        rows = np.arange(len(pictures), dtype=np.int64)
        samples.append(Samples(source, pictures.targets, picture_keys(pictures.digests), rows))
    samples[0] = dataclasses.replace(samples[0], mix=Mix(ground.num_classes, augment.mixup, augment.cutmix))
    num_seen = len(ground.train) - len(held_out)
    batch_size = batch_size_for(num_seen)
    micro_batch = min(batch_size, _WHOLE_BATCH) if cut.name is None else batch_size
    options = recipe.model

    def start(rows: IntArray, bn: BnPolicy = "train") -> Tuned:
        head = ground.probe.head if len(rows) == len(ground.train) else head_of(ground, rows)
        assert isinstance(head, Head)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            made = Tuned(ground.trunk, cut.name, begun_from(head, options.head), bn, options.pooling == "gem")
        return made.to(memory_format=torch.channels_last)

    epochs = recipe.fit.epochs or _EPOCHS
    stable, decay = shape_of(recipe.fit.schedule, _STABLE)
    task = Task(
        name=name,
        train=samples[0],
        val=samples[1],
        folds=folds,
        held_out=held_out,
        num_classes=ground.num_classes,
        start=start,
        optimizer=lambda network: optimizer_for(network, 1.0),
        max_steps=epochs * max(1, round(num_seen / batch_size)),
        choices=Choices(
            seed=recipe.seed,
            batch_size=batch_size,
            warmup=_WARMUP,
            stable=stable,
            decay=decay,
            average=_AVERAGE,
            clip=_CLIP,
            micro_batch=micro_batch,
            device=ground.world.device,
        ),
        preprocess=preprocess,
        threads=ground.threads,
        augment=augment,
        world=ground.world,
    )
    bn = yield from _bn_policy(task, recipe.fit.bn_policy, ground.embed_seconds, left)
    task = dataclasses.replace(task, start=functools.partial(start, bn=bn))
    kind = _balance(ground)
    choices, train = balanced(task.choices, task.train, kind, ground.train.targets, ground.num_classes)
    yield Decision(f"{name}.balance", kind, "--balance" if recipe.fit.balance != "auto" else "as the probe's head is")
    task = yield from varied_where_faster(dataclasses.replace(task, choices=choices, train=train))
    # At a rate of 1 weights would be gone after a few steps where batch norm does not hold them, and no step be timed.
    slow = dataclasses.replace(task, optimizer=lambda network: optimizer_for(network, _TIMED_AT))
    found = yield from measured(slow, left())
    return dataclasses.replace(found, optimizer=task.optimizer), cut


def _augment(ground: Ground, left: Clock) -> Steps[Augment]:
    """Decide how pictures are varied; where there is time, the backbone itself is asked what their labels survive."""
    wish, size = ground.recipe.augment, ground.preprocess.image_size
    auto = preset(_AUTO, size, erases=False)
    keys = picture_keys(ground.train.digests)
    drawn = np.argsort(bits(ground.recipe.seed, 0, keys, purpose=100), kind="stable").astype(np.int64)
    look, side, count = None, _SAMPLE_PX, _SAMPLE
    if wish.augment == "auto":
        affordable = min(len(drawn), _SAMPLE, int(_SURVEY_SHARE * left() / (_SURVEY_LOOKS * ground.embed_seconds)))
        enough = affordable >= _SURVEY_LEAST
        words = f"{max(0.0, left()):.0f} s are left, enough to show the backbone {max(0, affordable):,} pictures"
        words += "" if enough else ": too few, so small pictures are asked"
        asked = yield from decide("finetune.survey", affordable if enough else 0, words)
        look, side, count = (_eye(ground), size, asked) if asked else (look, side, count)
    few = ground.train.take(drawn[:count])
    seen = dataclasses.replace(ground.preprocess, image_size=side)
    held = yield from decode_all(few.files, seen, 3, ground.threads)
    pixels = next(held.batches([np.arange(len(few))])).numpy()
    return (yield from chosen(wish, auto, size, "finetune", pixels, few.targets, look))


def _eye(ground: Ground) -> Eye:
    """Return what the probe's trunk makes of pictures uint8 [n, S, S, 3], float32 [n, D], in memory."""
    session = Session(ground.probe.trunk)

    def look(pixels: NDArray[np.uint8]) -> Steps[NDArray[np.floating]]:
        found = []
        run = map_ordered(lambda one: session.run(one[None], ["embedding"])["embedding"][0], pixels, ground.threads)
        for embedding in run:
            found.append(embedding)
            yield Progress("finetune.survey", len(found), len(pixels))
        return np.stack(found)

    return look


def _cut(ground: Ground, left: Clock, fits: float) -> Steps[tuple[Cut, bytes]]:
    """Choose where to cut, and return the graph of what is below; no graph for the whole network."""
    image_size, wish = ground.preprocess.image_size, ground.recipe.model.tune
    world = ground.world  # of several processes, each is one thread that sees its share
    threads = ground.threads if world.size == 1 and world.device == "cpu" else 1
    places, seconds = yield from profiled(ground.trunk, image_size, threads, world.device, max(0.0, left()))
    train_seconds = seconds / world.size
    if wish == "head":
        places = places[-1:]
    elif wish == "all":
        places = places[:1]
    elif wish == "last":
        places = places[1:-1]
    elif isinstance(wish, int):
        places = [_last(ground, places, wish)]
    elif ground.recipe.model.head == "linear" and ground.recipe.model.pooling == "avg":
        places = places[:-1]  # the head alone is the probe
    if ground.recipe.model.pooling == "gem":
        places = [place for place in places if place.name != EMBEDDING]
    num_train, num_val = len(ground.train), len(ground.val)
    free = files.free_bytes(ground.cache)
    room = MOST_BYTES // 2 if free is None else min(MOST_BYTES // 2, free // 2)
    yield (before := Recall("finetune.cut"))
    while places:
        sums = Sums(num_train, num_val, ground.embed_seconds, train_seconds, fits, max(0.0, left()), room)
        found = choose_cut(places, sums)
        if before.decided and (told := before.decided.popleft()).value is not None:
            name = told.value["from"]
            found = Cut(None if name == "input" else name, told.value["views"], told.evidence)
        elif found is None and wish not in ("auto", "last"):
            found = _named_cut(wish, places[0], sums)
        if found is None:
            each = 1000 * ground.embed_seconds
            why = f"{max(0.0, left()):.0f} s are left, too little at {each:.0f} ms for a look at one picture"
            yield Decision("finetune.cut", None, f"{why}; a longer --budget tunes the backbone")
            break
        if found.name == EMBEDDING:
            yield _told(found)
            return found, ground.probe.trunk
        if found.name is None:
            yield _told(found)
            return found, b""
        if is_sound(ground.trunk, found.name, image_size):
            yield _told(found)
            return found, exported_below(ground.trunk, found.name, image_size)
        if isinstance(wish, int):
            words = f"--tune got {wish}, and {_named(ground)} cannot be taken apart at {found.name}."
            raise RecipeError("no_cut", words, "Give another number, or leave it to the time there is: --tune last.")
        places = [place for place in places if place.name != found.name]
    raise OutOfTimeError()


def _last(ground: Ground, places: Sequence[Place], count: int) -> Place:
    """Return the place below the last `count` blocks. Raises RecipeError (`too_many_blocks`) where there are fewer."""
    names = blocks(ground.trunk.model)
    found = [place for place in places if place.name in names]
    if count > len(found):
        words = f"--tune got {count}, and {_named(ground)} has {len(found)} blocks."
        raise RecipeError("too_many_blocks", words, f"Give a number from 1 to {len(found)}, or all.")
    return found[-count]


def _named_cut(wish: int | str, place: Place, sums: Sums) -> Cut:
    """Return the cut at the place that was asked for, whatever time there is.

    Raises RecipeError (`no_room_for_views`) where the views of each picture that it takes cannot be kept.
    """
    views = {"head": 4, "all": 0}.get(str(wish), 2)
    needed = place.num_bytes * (views * sums.num_train + sums.num_val)
    if views and needed > sums.num_bytes:
        words = f"--tune got {wish}; what goes into {place.name} takes {needed / 1e9:.1f} GB for these pictures, and "
        words += f"{sums.num_bytes / 1e9:.1f} may be kept in the cache."
        fix = "Give a smaller number, free some disk, or use --tune all, which keeps none."
        raise RecipeError("no_room_for_views", words, fix)
    return Cut(place.name, views, f"--tune {wish}")


def _named(ground: Ground) -> str:
    return ground.probe.backbone or ground.folder.name


def _told(cut: Cut) -> Decision:
    return Decision("finetune.cut", {"from": cut.name or "input", "views": cut.num_views}, cut.why)


def _bn_policy(
    task: Task[Tuned], wish: BnPolicy | Literal["auto"], embed_seconds: float, left: Clock
) -> Steps[BnPolicy]:
    """Return what batch norm above the cut does: as asked for, else `frozen` unless these pictures' own statistics are
    as good to begin with as the backbone's, and of enough pictures at a time.

    With other statistics the embedding is not the one that the head was fitted on, and the first steps destroy it.
    """
    name, size = "finetune.bn_policy", task.choices.micro_batch
    if wish != "auto":
        yield Decision(name, wish, "--bn-policy")
        return wish
    value, words = "frozen", "there are no validation pictures; the statistics that the head was fitted with stay"
    if size < _BN_BATCH:
        words = f"only {size} pictures go through the network at a time"
    elif (2 * len(task.val) + _BN_BATCHES * size) * embed_seconds > _BN_SHARE * left():
        words = "there is no time to compare; the statistics that the head was fitted with stay"
    elif len(task.val):
        own, new = yield from _losses(task, name)
        value = "train" if new <= own else "frozen"
        words = f"validation loss before any step {own:.3f}, {new:.3f} with statistics of these pictures"
    policy: BnPolicy = yield from decide(name, value, words)
    return policy


def _losses(task: Task[Tuned], name: str) -> Steps[tuple[float, float]]:
    """Return the validation loss before any step, and that with batch norm's statistics of the training pictures."""
    rows = task.learned_from.rows
    network = task.start(rows).to(task.choices.device).eval()
    own = yield from validated(network, task.val, task.exact, name)
    reestimated_on(network, task.train.at(rows), task.choices, _BN_BATCHES)
    new = yield from validated(network, task.val, task.exact, name)
    assert own is not None, "there are validation pictures"
    assert new is not None, "there are validation pictures"
    return own.tempered, new.tempered


def _balance(ground: Ground) -> str:
    """Return the way of balancing: as asked for, else as the probe's head was found to be balanced best."""
    wish = ground.recipe.fit.balance
    return str(ground.probe.details.get("balance", "none")) if wish == "auto" else wish


def head_of(ground: Ground, rows: IntArray) -> Head:
    """Return the probe's head fitted on some of the training pictures, at the penalty of the whole."""
    penalty = ground.probe.details.get("penalty")
    targets = ground.train.targets[rows]
    way = balancing(_balance(ground), targets, ground.num_classes)
    steps = fit_path(
        ground.probe.embeddings["train"][rows],
        targets,
        ground.num_classes,
        [penalty if isinstance(penalty, float) else _PENALTY],
        way.weights,
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            heads: list[Head] = end.value
            return way.adjusted(heads[0])
