"""From a manifest to the arrays that the checks take; everything comes from the cache of the scan."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from tellapart.cache import Space
from tellapart.data.audit.evidence import Evidence, Ints
from tellapart.data.facts import PictureFacts, Refusal, gather, space_key
from tellapart.data.groups import components
from tellapart.data.identity import identities
from tellapart.data.manifest import Manifest, Split
from tellapart.data.series import find_series, neighbours
from tellapart.data.thumbnails import measures, small_thumbnails
from tellapart.errors import DataError
from tellapart.events import Steps
from tellapart.images import DecodePolicy
from tellapart.images.examine import unpack

__all__ = ["facts_of", "gather_evidence"]


def gather_evidence(manifest: Manifest, policy: DecodePolicy, cache: Path, threads: int) -> Steps[Evidence]:
    """Return what the scan knows of the pictures of a manifest. Raises DataError (`changed_file`).

    `policy` is the one they were scanned with.
    """
    rows = manifest.rows
    paths, digests = [row.path for row in rows], [row.sha256 for row in rows]
    facts = yield from facts_of(manifest, policy, cache, threads)
    names = yield from identities(manifest.root, paths, facts, policy, cache, threads)
    kept = set(manifest.kept)
    index = {label: number for number, label in enumerate(manifest.classes)}
    files = [manifest.file(row) for row in rows]
    small = yield from small_thumbnails(files, digests, policy, cache)
    identical = _numbers(names)
    measured = measures(facts)
    series = find_series(neighbours(paths, measured), small)
    together = bool(manifest.facts.get("series_together"))
    return Evidence(
        paths=paths,
        digests=digests,
        classes=manifest.classes,
        targets=np.array([index[row.label] for row in rows], dtype=np.int64),
        splits=[_given(manifest, row.split) for row in rows],
        identities=identical,
        near=_joined(identical, paths, manifest.near),
        series=series.numbers if series.strong or together else np.arange(len(rows), dtype=np.int64),
        series_kept=together,
        groups=_numbers([row.group for row in rows]),
        sizes=np.array([(row.width, row.height) for row in rows], dtype=np.int64).reshape(-1, 2),
        grey=np.array([fact.grey for fact in facts], dtype=bool),
        measures=measured,
        thumbnails=small,
        assigned=[row.split for row in rows],
        given=manifest.given,
        excluded=manifest.excluded,
        kept=frozenset(row for row, path in enumerate(paths) if path in kept),
    )


def _given(manifest: Manifest, split: Split) -> Split:
    """Return the split that a picture came in: what was carved out of train came in train."""
    return split if not manifest.given or split in manifest.given else "train"


def facts_of(manifest: Manifest, policy: DecodePolicy, cache: Path, threads: int) -> Steps[list[PictureFacts]]:
    """Return what one decode told of each picture, from the cache. Raises DataError (`changed_file`)."""
    rows = manifest.rows
    known: dict[int, PictureFacts] = {}
    with Space(cache, "facts", space_key(policy)) as space:
        for position, record in space.get([row.sha256 for row in rows]):
            fact = unpack(rows[position].sha256, record)
            if isinstance(fact, PictureFacts):
                known[position] = fact
    absent = [position for position in range(len(rows)) if position not in known]
    if absent:  # the cache was cleared meanwhile
        again: list[PictureFacts | Refusal] = []
        paths = [rows[position].path for position in absent]
        yield from gather(manifest.root, paths, policy, cache, threads, lambda fact, _: again.append(fact), len(paths))
        for position, fact in zip(absent, again, strict=True):
            if isinstance(fact, Refusal) or fact.sha256 != rows[position].sha256:
                raise DataError(
                    "changed_file",
                    f"{rows[position].path} changed or went after the scan.",
                    "Wait until whatever writes it is done, and run again.",
                )
            known[position] = fact
    return [known[position] for position in range(len(rows))]


def _joined(identities: Ints, paths: Sequence[str], near: Sequence[tuple[str, str]]) -> Ints:
    """Return int64 [n]: equal for pictures with equal pixels, and for those that pairs of paths join."""
    rows = {path: row for row, path in enumerate(paths)}
    keys: list[list[tuple[str, int]]] = [[("pixels", number)] for number in identities.tolist()]
    for number, (one, other) in enumerate(near):
        if one in rows and other in rows:
            keys[rows[one]].append(("pair", number))
            keys[rows[other]].append(("pair", number))
    return np.array(components(keys), dtype=np.int64)


def _numbers(names: Sequence[Hashable]) -> Ints:
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(name, len(first)) for name in names], dtype=np.int64)
