"""Several fitted models that answer together: their embeddings side by side under one linear head."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge import pool_weights
from tellapart.learn.folds import make_folds
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.merged import merged
from tellapart.learn.rungs import Fitted, FloatArray, Head, IntArray, OutOfFold, Pictures

__all__ = ["Member", "together"]

_LEAST_SHARE = 0.05  # a model that counts for less is not worth its time
_SMALLEST = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A model with a linear head: `fitted`, the temperature of its logits, and where its pictures lie.

    `rows` {split: int64} are the places of the pictures whose embeddings `fitted` holds, sorted; `out_of_fold` int64
    those of training pictures that it predicted out of fold, in the order of those predictions.
    """

    fitted: Fitted
    temperature: float
    rows: Mapping[str, IntArray]
    out_of_fold: IntArray


def together(
    members: Sequence[Member], train: Pictures, weights: NDArray[np.float64] | None, seed: int
) -> tuple[Fitted, dict[str, IntArray]] | None:
    """Return the members as one model, with the rows of each split that all of them looked at; None where one is best.

    `train` are all training pictures, `weights` float64 [N] what each counts. The logits are the members', each over
    its temperature, in weights that make the log loss out of fold the lowest: that is a linear head on all embeddings.
    Members that count for less than a twentieth are left out. The out-of-fold logits that are given use weights that
    were fitted without the picture's fold and its group.
    """
    kept = list(range(len(members)))
    while len(kept) > 1:
        some = [members[place] for place in kept]
        told = functools.reduce(np.intersect1d, [member.out_of_fold for member in some])
        logits = [_logits_at(member, told) for member in some]
        each = None if weights is None else weights[told]
        with one_blas_thread():
            found = pool_weights(logits, train.targets[told], each)
        shares = found / found.sum()
        if shares.min() >= _LEAST_SHARE:
            return _joined(some, found, told, logits, train, weights, seed)
        kept.pop(int(shares.argmin()))
    return None


def _logits_at(member: Member, rows: IntArray) -> FloatArray:
    """Return calibrated out-of-fold logits float32 [n, K] of training pictures, by their places."""
    order = np.argsort(member.out_of_fold)
    places = order[np.searchsorted(member.out_of_fold, rows, sorter=order)]
    return np.asarray(member.fitted.out_of_fold.logits[places] / np.float32(member.temperature), dtype=np.float32)


def _joined(
    members: Sequence[Member],
    found: NDArray[np.float64],
    told: IntArray,
    logits: Sequence[FloatArray],
    train: Pictures,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> tuple[Fitted, dict[str, IntArray]]:
    rows = {
        split: functools.reduce(np.intersect1d, [member.rows[split] for member in members]) for split in members[0].rows
    }
    parts = [
        {
            split: member.fitted.embeddings[split][np.searchsorted(member.rows[split], rows[split])]
            for split in ("train", "val")
        }
        for member in members
    ]
    scales = [1.0 / max(_SMALLEST, _spread(part["train"])) for part in parts]
    temperatures = [member.temperature for member in members]
    heads = [
        member.fitted.head.tempered(temperature / weight)
        for member, temperature, weight in zip(members, temperatures, found.tolist(), strict=True)
    ]
    linear = [head for head in heads if isinstance(head, Head)]
    assert len(linear) == len(heads), "members have linear heads"
    head = Head(
        np.concatenate([one.weight / np.float32(scale) for one, scale in zip(linear, scales, strict=True)]),
        np.asarray(sum(one.bias for one in linear), dtype=np.float32),
    )
    embeddings = {
        split: np.concatenate(
            [part[split] * np.float32(scale) for part, scale in zip(parts, scales, strict=True)], axis=1
        )
        for split in ("train", "val")
    }
    some = train.take(told)
    unseen, crossed = _crossed(logits, some, None if weights is None else weights[told], seed)
    shares = found / found.sum()
    held = [np.intersect1d(rows["train"], member.rows["train"][member.fitted.held_out]) for member in members]
    first = members[int(shares.argmax())].fitted
    names = list(dict.fromkeys(member.fitted.backbone for member in members if member.fitted.backbone))
    licences = list(dict.fromkeys(member.fitted.licence or "unknown" for member in members if member.fitted.backbone))
    details = [
        {
            "method": member.fitted.method,
            "backbone": member.fitted.backbone,
            "share": round(float(share), 4),
            "details": dict(member.fitted.details),
        }
        for member, share in zip(members, shares, strict=True)
    ]
    fitted = Fitted(
        method="ensemble",
        trunk=merged([member.fitted.trunk for member in members], scales),
        head=head,
        preprocess=first.preprocess,
        out_of_fold=OutOfFold(np.searchsorted(rows["train"], told[unseen]), crossed),
        embeddings=embeddings,
        held_out=np.searchsorted(rows["train"], functools.reduce(np.intersect1d, held)),
        backbone=" + ".join(names) or None,
        licence=" + ".join(licences) or None,
        epochs=next((member.fitted.epochs for member in members if member.fitted.epochs), ()),
        notes=tuple(dict.fromkeys(note for member in members for note in member.fitted.notes)),
        details={"members": details},
    )
    return fitted, rows


def _crossed(
    logits: Sequence[FloatArray], pictures: Pictures, weights: NDArray[np.float64] | None, seed: int
) -> tuple[IntArray, FloatArray]:
    """Return the places of pictures that can be left out, and logits float32 [n, K] in weights fitted on the others."""
    folds = make_folds(pictures.targets, pictures.groups, seed=seed)
    answers = np.zeros_like(logits[0])
    for fold in range(int(folds.max(initial=-1)) + 1):
        away = folds == fold
        others = None if weights is None else weights[~away]
        with one_blas_thread():
            found = pool_weights([one[~away] for one in logits], pictures.targets[~away], others)
        answers[away] = sum(np.float32(weight) * one[away] for weight, one in zip(found, logits, strict=True))
    unseen = np.flatnonzero(folds >= 0)
    return unseen, answers[unseen]


def _spread(embeddings: FloatArray) -> float:
    """Return the root of the mean squared distance of embeddings to their mean."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    total = sum(float(np.square(embeddings[at : at + 1024] - mean).sum()) for at in range(0, len(embeddings), 1024))
    return float(np.sqrt(total / max(1, len(embeddings))))
