"""Where a finished model looks: whether its maps may be shown, over its mistakes, and whether it looks at borders."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__
from tellapart.cache import Space, digest_of
from tellapart.errors import PictureError
from tellapart.events import Decision, Progress, Recall, Steps
from tellapart.images import map_ordered, prepare_guarded
from tellapart.judge.borders import Borders, borders, difference_map
from tellapart.judge.maps import RING, mass, place
from tellapart.judge.sanity import Sanity, orders_for, sane
from tellapart.ladder.clock import Clock
from tellapart.ladder.looking import Seen, seen, try_maps
from tellapart.ladder.show import evenly
from tellapart.learn.rungs import Pictures
from tellapart.report import PictureCard
from tellapart.report.attention import Attention
from tellapart.report.overlay import layer_png, veiled
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.saliency import Saliency
from tellapart.runtime.saliency_trial import SHARES

__all__ = ["attention"]

_SAMPLE = 40  # pictures whose borders are exchanged
_TRIED = 12
_QUICK_SAMPLE, _QUICK_TRIED = 20, 6
_VERSION = 1  # part of the key of what a trial told
# By occlusion a map takes some fifty runs of the model.
_MOST_MAPPED = {"class_activation": 24, "occlusion": 8}
_FEWEST = 2
_LEAST_SECONDS = 8.0
_IN_TIME = "maps_in_time"
# What looking may take, guessed from the first picture: what is left beyond that, and a share of the run.
_KEPT_SECONDS, _SHARE, _ALWAYS_SECONDS = 4.0, 0.1, 5.0
_LAYER_PX = 112

Cards = dict[int, PictureCard]
Answered = tuple[NDArray[np.uint8], int]


def attention(
    bundle: Bundle,
    held_out: Pictures,
    pictures: Pictures,
    mistakes: Sequence[int],
    cards: Mapping[int, PictureCard],
    threads: int,
    clock: Clock,
    cache: Path,
    quick: bool = False,
) -> Steps[tuple[Attention | None, Cards]]:
    """Return where the model looks, and the cards of `mistakes` (rows of `pictures`) with their maps.

    Maps are tried on at most 12 of the `held_out` pictures; where they fail, cards stay as they are. Borders are
    exchanged between at most 40 of `pictures`, those of the verdict: nothing is chosen by what that shows. `quick`
    makes do with half of both. None for a model that looks at nothing, for fewer than two pictures, and where the
    clock leaves no time for it.
    """
    same = dict(cards)
    if bundle.card.method == "majority" or len(held_out) < _FEWEST:
        return None, same
    left = max(0.0, clock.left())
    yield (before := Recall(_IN_TIME))
    in_time = dataclasses.replace(before.decided.popleft(), again=True) if before.decided else None
    if in_time is None and left < _LEAST_SECONDS:
        in_time = Decision(_IN_TIME, False, f"{left:.0f} s are left, too little to see where it looks")
    if in_time is not None and not in_time.value:
        yield in_time
        return None, same
    saliency = Saliency(bundle)
    chosen = evenly(range(len(held_out)), _QUICK_TRIED if quick else _TRIED)
    tried = [held_out.files[row] for row in chosen]
    same_trial = [saliency.method, bundle.card.digests["model.onnx"], [held_out.digests[row] for row in chosen]]
    key = digest_of(["sanity", _VERSION, __version__, *same_trial])
    sanity = _kept(cache, key)
    files = [pictures.files[row] for row in evenly(range(len(pictures)), _QUICK_SAMPLE if quick else _SAMPLE)]
    yield Progress("look", 0, len(tried) + len(files))
    num_tried = len(tried) if sanity is None else 0
    needed = _guessed_seconds(saliency, tried[0], num_tried, len(files), len(mistakes), threads)
    most = min(clock.left() - _KEPT_SECONDS, _ALWAYS_SECONDS + _SHARE * clock.spent())
    words = f"to see where it looks takes about {needed:.0f} s, and {max(0.0, most):.0f} s are to spare"
    in_time = in_time or Decision(_IN_TIME, needed <= most, words)
    yield in_time
    if not in_time.value:
        return None, same
    if sanity is None:
        own = [one for one in seen(saliency, tried, threads) if one is not None]
        sanity = sane(try_maps(saliency, own, threads))
        _keep(cache, key, sanity)
    yield Progress("look", len(tried), len(tried) + len(files))
    looked: list[Seen] = []
    if saliency.method == "class_activation":
        looked = [one for one in seen(saliency, files, threads) if one is not None]
        answered = [(one.image, one.answer) for one in looked]
    else:
        answered = _answered(saliency, files, threads)
    found, differs = _borders(saliency, answered, looked if sanity.passed else [], threads)
    yield Decision("maps", sanity.passed, sanity.words)
    told = Attention(saliency.method, sanity, found, differs)
    if not sanity.passed:
        return told, same
    wanted = [row for row in mistakes if row in cards and cards[row].jpeg][: _MOST_MAPPED[saliency.method]]
    for row, one in zip(wanted, seen(saliency, [pictures.files[row] for row in wanted], threads), strict=True):
        if one is not None:
            same[row] = _mapped(same[row], one, bundle)
    yield Progress("look", len(tried) + len(files), len(tried) + len(files))
    return dataclasses.replace(told, shown=len(wanted)), same


def _kept(cache: Path, key: str) -> Sanity | None:
    """Return what the trial of this very model on these very pictures told before."""
    with Space(cache, "maps", key) as space:
        for _, record in space.get([key]):
            try:
                return Sanity(**json.loads(record))
            except (ValueError, TypeError):
                return None
    return None


def _keep(cache: Path, key: str, sanity: Sanity) -> None:
    with Space(cache, "maps", key) as space:
        space.put([(key, json.dumps(dataclasses.asdict(sanity)).encode())])


def _guessed_seconds(
    saliency: Saliency, file: Path, num_tried: int, num_files: int, num_mistakes: int, threads: int
) -> float:
    """Return what all of it will take, as `threads` go, from what looking at one picture takes."""
    began = time.monotonic()
    (one,) = seen(saliency, [file], 1)
    seconds = time.monotonic() - began
    if one is None:
        return 0.0
    whole = saliency.method == "class_activation"
    a_look = 1 if whole else one.map.size + 1
    trials = num_tried and num_tried * (a_look + (2 + orders_for(num_tried)) * (len(SHARES) - 2) + 1)
    runs = trials + 3 * num_files + min(num_mistakes, _MOST_MAPPED[saliency.method]) * a_look
    return seconds / a_look * runs / threads


def _mapped(card: PictureCard, one: Seen, bundle: Bundle) -> PictureCard:
    """Return a card with the map of its answer, to lie over its thumbnail."""
    from PIL import Image

    spread = mass(one.map)
    if spread is None:
        return card
    with Image.open(io.BytesIO(card.jpeg)) as thumbnail:
        scale = _LAYER_PX / max(thumbnail.size)
        size = (max(1, round(thumbnail.width * scale)), max(1, round(thumbnail.height * scale)))
    layer = layer_png(veiled(one.map, float(one.map.max()), size, bundle.preprocess))
    return dataclasses.replace(card, layer=layer, where=place(spread).sentence)


def _answered(saliency: Saliency, files: Sequence[Path], threads: int) -> list[Answered]:
    """Return the prepared pictures that can be read, each with the index of its likeliest class."""

    def look(file: Path) -> Answered | None:
        try:
            image = prepare_guarded(file, saliency.bundle.preprocess)
        except PictureError:
            return None
        return image, int(saliency.bundle.session.run(image[None], ["logits"])["logits"][0].argmax())

    return [one for one in map_ordered(look, files, threads) if one is not None]


def _borders(
    saliency: Saliency, answered: Sequence[Answered], looked: Sequence[Seen], threads: int
) -> tuple[Borders | None, NDArray[np.float64] | None]:
    """Exchange border rings, and middles as large, between pictures of other answers; see `judge.borders`.

    Beside it the map of differences [h, w], None without maps.
    """
    pairs = _partners([answer for _, answer in answered])
    if not pairs:
        return None, None
    ring, middle = _ring_and_middle(len(answered[0][0]))

    def moved(pair: tuple[int, int]) -> tuple[bool, bool]:
        (mine, _), (other, answer) = answered[pair[0]], answered[pair[1]]
        both = np.where(np.stack([ring, middle])[..., None], other, mine)
        said = saliency.bundle.session.run(both, ["logits"])["logits"].argmax(axis=1)
        return bool(said[0] == answer), bool(said[1] == answer)

    table = np.array(list(map_ordered(moved, pairs, threads)), dtype=bool)
    evidence = answers = differs = None
    if looked:
        said = np.array([one.answer for one in looked])
        labels, answers = np.unique(said, return_inverse=True)
        evidence = np.stack([saliency.maps(one.looked, labels.tolist()) for one in looked])
        differs = difference_map(evidence, answers)
    spread = None if differs is None else mass(differs)
    return borders(table[:, 0], table[:, 1], float(ring.mean()), evidence, answers), spread


def _partners(answers: Sequence[int]) -> list[tuple[int, int]]:
    """Return for each picture one that is answered otherwise, each of them as often as the others, as pairs of rows.

    A picture has none where all are answered alike.
    """
    pairs, asked = [], dict.fromkeys(answers, 0)
    for at, mine in enumerate(answers):
        others = [other for other, answer in enumerate(answers) if answer != mine]
        if others:
            pairs.append((at, others[asked[mine] % len(others)]))
            asked[mine] += 1
    return pairs


def _ring_and_middle(side_px: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks bool [S, S]: the border ring, and a square in the middle of as many pixels or a few less."""
    away = np.abs(np.arange(side_px) + 0.5 - side_px / 2)
    inner = away < side_px * (0.5 - RING)
    ring = ~(inner[:, None] & inner[None])
    close = away < side_px / 2 * np.sqrt(ring.mean())
    return ring, close[:, None] & close[None]
