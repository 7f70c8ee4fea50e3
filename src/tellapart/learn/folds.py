"""Folds for cross-validation: stratified, groups never split, the same for the same pictures in any order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tellapart.learn.rungs import IntArray

__all__ = ["make_folds", "parts"]

_TINY = 20
_ENOUGH_VAL = 500  # validation pictures; with as many, a slice of the training pictures is enough to calibrate on
_MAX_SLICE, _FOLDS = 1000, 3


def make_folds(targets: IntArray, groups: Sequence[str], k: int = 5, seed: int = 0) -> IntArray:
    """Return the fold of each picture, int64 [N] in [-1, folds): -1 is always trained on, never predicted.

    `targets` int [N] are class indices, `groups` names what must stay together. Each class is spread as evenly as its
    groups allow. There are `k` folds, or as many as groups where these are fewer, or where pictures are fewer than 20
    (leave one group out). A group with a class that no other group has is -1: no model could predict it unseen.
    The folds are a function of (seed, group names, their classes); the order of pictures does not count.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    groups_of_class: dict[int, set[str]] = defaultdict(set)
    for row, group in enumerate(groups):
        groups_of_class[int(targets[row])].add(group)
    alone = {next(iter(names)) for names in groups_of_class.values() if len(names) == 1}
    free = [group for group in members if group not in alone]
    num_folds = len(free) if len(targets) < _TINY else min(k, len(free))
    folds = np.full(len(targets), -1, dtype=np.int64)
    if num_folds < 2:
        return folds

    def place(group: str) -> tuple[int, bytes]:
        return -len(members[group]), hashlib.sha256(f"{seed}/{group}".encode("utf-8", "surrogatepass")).digest()

    in_class = {label: np.zeros(num_folds, dtype=np.int64) for label in groups_of_class}
    in_all = np.zeros(num_folds, dtype=np.int64)
    for group in sorted(free, key=place):
        rows = members[group]
        # A group of several classes follows its rarest: the others have pictures enough to even out.
        rarest = min((int(targets[row]) for row in rows), key=lambda label: (len(groups_of_class[label]), label))
        fold = int(np.lexsort((in_all, in_class[rarest]))[0])
        for row in rows:
            in_class[int(targets[row])][fold] += 1
        in_all[fold] += len(rows)
        folds[rows] = fold
    return folds


def parts(
    targets: IntArray, groups: Sequence[str], num_val: int, seed: int, wish: int | str = "auto"
) -> tuple[IntArray, IntArray]:
    """Return (the fold of each training picture, the rows held out): one of the two is in use, the other empty.

    With 500 validation pictures or more it is a slice of some thousand that is held out, else there are three folds, or
    as many as `wish` says where that is a number.
    """
    if num_val < _ENOUGH_VAL:
        num_folds = wish if isinstance(wish, int) else _FOLDS
        return make_folds(targets, groups, num_folds, seed), np.empty(0, np.int64)
    slices = max(10, -(-len(targets) // _MAX_SLICE))
    held_out = make_folds(targets, groups, slices, seed) == 0
    return np.full(len(targets), -1, dtype=np.int64), np.flatnonzero(held_out).astype(np.int64)
