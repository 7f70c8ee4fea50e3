"""From findings to what a page shows of them: thumbnails of the worst of each, as many as there is time for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tellapart.cache import Space, digest_of
from tellapart.data.audit import Finding
from tellapart.data.manifest import Manifest
from tellapart.errors import PictureError
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, decode_guarded, map_ordered, thumbnail_jpeg
from tellapart.ladder.clock import Clock
from tellapart.lazy import Lazy
from tellapart.report import Found, FoundPicture

__all__ = ["found", "thumbnails"]

_SIDE_PX = 128
_VERSION = 1  # part of the cache's key: raise it when a thumbnail would come out differently


def found(
    findings: Sequence[Finding],
    manifest: Manifest,
    policy: DecodePolicy,
    most: int,
    threads: int,
    cache: Path,
    clock: Clock,
    reserve: float = 0.0,
) -> Steps[tuple[Found, ...]]:
    """Return the findings with thumbnails of the first `most` pictures of each, until `reserve` seconds are left."""
    wanted = {row.path: row.sha256 for finding in findings for row in finding.rows[:most] if row.sha256}
    made = yield from thumbnails(wanted, manifest.root, policy, threads, cache, clock, reserve)
    return tuple(_found(finding, made, most) for finding in findings)


def thumbnails(
    wanted: Mapping[str, str],
    root: Path,
    policy: DecodePolicy,
    threads: int,
    cache: Path,
    clock: Clock,
    reserve: float = 0.0,
) -> Steps[dict[str, bytes]]:
    """Return a JPEG of 128 px by the sha256 of each picture of `wanted` (path: sha256), until `reserve` seconds are
    left; those that cannot be read are not there.
    """
    made: dict[str, bytes] = {}
    with Space(cache, "report-thumbnails", digest_of([dataclasses.asdict(policy), _SIDE_PX, _VERSION])) as space:
        digests = list(dict.fromkeys(wanted.values()))
        made = {digests[place]: jpeg for place, jpeg in space.get(digests)}
        absent = {sha256: path for path, sha256 in wanted.items() if sha256 not in made}
        fresh: dict[str, bytes] = {}

        def seen(item: tuple[str, str]) -> tuple[str, bytes]:
            sha256, path = item
            try:
                return sha256, thumbnail_jpeg(decode_guarded(root / path, _SIDE_PX, policy), _SIDE_PX)
            except PictureError:
                return sha256, b""

        for sha256, jpeg in map_ordered(seen, list(absent.items()), threads):
            if clock.left() < reserve:
                break
            if jpeg:
                fresh[sha256] = jpeg
            yield Progress("report", len(made) + len(fresh), len(digests))
        space.put(fresh.items())
    made |= fresh
    return made


def _found(finding: Finding, made: Mapping[str, bytes], most: int) -> Found:
    suspects = finding.rows

    def shown() -> Iterator[FoundPicture]:
        for place, row in enumerate(suspects):
            jpeg = made.get(row.sha256, b"") if place < most else b""
            yield FoundPicture(row.path, row.label, row.score, row.suggested, row.why, row.sha256, jpeg)

    rows = Lazy(shown, len(suspects)) if isinstance(suspects, Lazy) else tuple(shown())
    return Found(finding.check, finding.severity, finding.note, finding.fix, rows)
