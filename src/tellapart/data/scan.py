"""From what the user named to a manifest: list, read, group, split. Every file is used, or left out with a reason."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tellapart.data.archive import is_archive, unpacked
from tellapart.data.assign import Apart, Picture, assign, read_previous, set_apart
from tellapart.data.conflicts import without_conflicts
from tellapart.data.corrections import Corrected
from tellapart.data.disk import Stamp
from tellapart.data.facts import PictureFacts, Refusal, gather
from tellapart.data.identity import identities
from tellapart.data.left_out import LeftOut
from tellapart.data.listed import listed
from tellapart.data.listing import Entry, First, Listing, shown, some
from tellapart.data.manifest import SPLITS, UNLABELLED, Excluded, Manifest, Row, Split
from tellapart.data.near import Near, near_duplicates
from tellapart.data.near_groups import NearGroups, near_groups
from tellapart.data.oddities import noted, oddity_notes
from tellapart.data.policy import decode_policy, set_facts
from tellapart.data.series import find_series, neighbours
from tellapart.data.thumbnails import measures, small_thumbnails
from tellapart.errors import DataError, RecipeError
from tellapart.events import Decision, Note, StageBegan, StageEnded, Steps
from tellapart.images import DecodePolicy, default_threads
from tellapart.recipe import Recipe

__all__ = ["Purpose", "scan", "scan_listing"]

Purpose = Literal["train", "check", "evaluate"]
_MOST_DISK_ERRORS = 0.01
_NOT_FOLLOWED = ("symlink_outside", "symlink_folder", "folder_loop")
_UNEVEN = 50


def scan(data: Path, recipe: Recipe, cache: Path, purpose: Purpose = "train") -> Steps[Manifest]:
    """List, read, group and split labelled pictures: a folder per class, split folders, a table; or an archive of one.

    To `evaluate`, nothing is split: pictures without a given split are test, and one class is enough. To `check`, they
    are split as in training, and nothing that only training needs is refused. Every note is yielded, and kept. Nothing
    is written but the cache. Raises DataError when the data cannot be used.
    """
    if purpose == "train" and recipe.data.val + recipe.data.test > 0.95:
        raise RecipeError(
            "bad_option",
            f"--val {recipe.data.val:g} and --test {recipe.data.test:g} leave too little to train on.",
            "Their sum may be 0.95 at most.",
        )
    previous = None
    if purpose == "train" and recipe.data.previous is not None:
        previous = read_previous(Path(recipe.data.previous))
    place = (yield from unpacked(data, cache)) if is_archive(data) else None
    began = time.monotonic()
    yield StageBegan("scan")
    listing = yield from listed(data, recipe, place)
    manifest = yield from scan_listing(listing, recipe, cache, purpose, previous)
    yield StageEnded("scan", time.monotonic() - began)
    return manifest


def scan_listing(
    listing: Listing, recipe: Recipe, cache: Path, purpose: Purpose, previous: Manifest | None = None
) -> Steps[Manifest]:
    """Read, group and split what is listed; as `scan` otherwise."""
    policy, threads = decode_policy(recipe), recipe.fit.threads or default_threads()
    used, excluded, failed = _Used(), LeftOut(listing.excluded), First()
    corrected = Corrected(recipe.data.corrections, set(listing.labels))
    entries = iter(listing.entries)

    def take(fact: PictureFacts | Refusal, stamp: Stamp) -> None:
        entry = next(entries)
        size, mtime_ns = stamp
        if isinstance(fact, Refusal) and fact.code == "disk_error":
            failed.append(entry.path)
        sha256 = "" if isinstance(fact, Refusal) else fact.sha256
        entry, decided = corrected.seen(entry, sha256)
        if decided == "drop":
            seen = (entry.label, sha256, size, mtime_ns)
            excluded.append(Excluded(entry.path, "dropped", "It is dropped by --corrections.", *seen))
        elif isinstance(fact, Refusal):
            excluded.append(Excluded(entry.path, fact.code, fact.note, entry.label, size=size))
        elif entry.unlabelled:
            words = "It lies in a folder for pictures without a label."
            excluded.append(Excluded(entry.path, "unlabelled", words, None, sha256, size, mtime_ns))
        elif entry.label is None:
            why = "Its row in the table has no label." if listing.tabled else "It lies outside of any class folder."
            excluded.append(Excluded(entry.path, "no_label", why, size=size))
        else:
            used.entries.append(entry)
            used.facts.append(fact)
            used.stamps.append(stamp)

    yield from gather(listing.root, listing.paths, policy, cache, threads, take, len(listing.entries))
    _check_disk(listing, failed)
    names = yield from identities(
        listing.root, [entry.path for entry in used.entries], used.facts, policy, cache, threads
    )
    near = None
    if purpose != "evaluate":
        if recipe.data.near_duplicates != "off":
            files = [listing.root / entry.path for entry in used.entries]
            near = yield from near_duplicates(files, names, used.facts, policy, cache, threads)
        used.series = yield from _series(listing, used, recipe, policy, cache)
    manifest, notes, alike, torn = _assemble(listing, used, names, near, excluded, recipe, previous, purpose)
    if torn:
        wish = recipe.data.two_labels
        words = f"{torn:,} file(s) hold a picture that is under two labels, and no label is better than the other"
        yield Decision("two_labels", wish, words if wish == "drop" else f"asked for; {words}")
    if alike is not None and alike.near.candidates:
        yield alike.decision()
    manifest = dataclasses.replace(manifest, kept=tuple(corrected.kept), notes=(*manifest.notes, *corrected.notes()))
    for text in corrected.notes():
        yield Note("info", text)
    for level, text in notes:
        yield Note(level, text)
    return manifest


@dataclasses.dataclass(slots=True)
class _Used:
    """Labelled pictures that decode, and what is known of them, side by side."""

    entries: list[Entry] = dataclasses.field(default_factory=list)
    facts: list[PictureFacts] = dataclasses.field(default_factory=list)
    stamps: list[Stamp] = dataclasses.field(default_factory=list)
    series: list[int] | None = None


def _series(
    listing: Listing, used: _Used, recipe: Recipe, policy: DecodePolicy, cache: Path
) -> Steps[list[int] | None]:
    """Decide whether bursts and films are kept together; return the series of each picture where they are."""
    wish = recipe.data.group_series
    follow = neighbours([entry.path for entry in used.entries], measures(used.facts))
    if wish == "off" or not len(follow.pairs):
        return None
    files = [listing.root / entry.path for entry in used.entries]
    found = find_series(
        follow, (yield from small_thumbnails(files, [fact.sha256 for fact in used.facts], policy, cache))
    )
    together = wish == "on" or found.strong
    yield Decision("group_series", together, f"{'asked for; ' if wish == 'on' else ''}{found.evidence}")
    return found.numbers.tolist() if together else None


def _check_disk(listing: Listing, failed: First) -> None:
    """Refuse a set of which a part, more than by chance, cannot be read for the disk's sake."""
    if len(failed) > _MOST_DISK_ERRORS * len(listing.entries):
        raise DataError(
            "disk_errors",
            f"{len(failed)} of {len(listing.entries)} file(s) in {shown(listing.name)} cannot be read, asked several "
            f"times: {some(failed)}.",
            "Look after the disk, or the network that it is on.",
        )


def _assemble(
    listing: Listing,
    used: _Used,
    names: Sequence[str],
    near: Near | None,
    excluded: LeftOut,
    recipe: Recipe,
    previous: Manifest | None,
    purpose: Purpose,
) -> tuple[Manifest, list[tuple[str, str]], NearGroups | None, int]:
    notes = list(listing.notes)
    digests = [fact.sha256 for fact in used.facts]
    keep, conflicts, told, torn = without_conflicts(
        used.entries, names, digests, recipe.data.two_labels == "keep", used.stamps
    )
    excluded.extend(conflicts)
    notes += told
    given: tuple[Split, ...] = ()
    if listing.splits:
        present = {used.entries[index].split or "train" for index in keep}
        given = tuple(split for split in SPLITS if split in present)
    pictures = [
        Picture(
            entry.path,
            entry.label or "",
            used.facts[index].sha256,
            names[index],
            (entry.split or "train") if listing.splits else None,
            entry.group,
            None if used.series is None else used.series[index],
        )
        for index in keep
        for entry in [used.entries[index]]
    ]
    if not pictures:
        raise _nothing_usable(listing, excluded)
    alike, apart = None, Apart(recipe.data.val, recipe.data.test)
    if purpose == "evaluate":
        pictures = [dataclasses.replace(picture, given=picture.given or "test") for picture in pictures]
        assigned = assign(pictures, SPLITS, recipe.seed, 0.0, 0.0)
    else:
        if purpose == "train":
            _check_classes(pictures, given)
        if near is not None:
            labels = [picture.label for picture in pictures]
            alike = near_groups(near, keep, labels, recipe.data.near_duplicates == "on")
            pictures = alike.joined(pictures)
        if purpose == "train":
            apart = set_apart(pictures, given, recipe.data, previous)
        assigned = assign(pictures, given, recipe.seed, apart.val, apart.test, previous)
    rows: list[Row] = []
    facts: list[PictureFacts] = []
    for index, picture, split, group in zip(keep, pictures, assigned.splits, assigned.groups, strict=True):
        fact, stamp = used.facts[index], used.stamps[index]
        if split is None:
            words = "It belongs to older pictures of two different splits."
            excluded.append(Excluded(picture.path, "bridges_splits", words, None, fact.sha256, *stamp))
        else:
            columns = used.entries[index].columns
            seen = (fact.sha256, fact.width, fact.height, *stamp, noted(picture.path, fact), columns)
            rows.append(Row(picture.path, picture.label, split, group, *seen))
            facts.append(fact)
    notes += assigned.notes
    known = dict(set_facts(facts, [row.split for row in rows]))
    if used.series is not None:
        known["series_together"] = True
    if apart.folds:
        known["folds"] = {"count": apart.folds, "why": apart.why}
    if alike is not None:
        notes += alike.notes(pictures, rows)
        known["near_duplicates"] = alike.facts(pictures, rows)
    notes += [*_class_notes(listing, rows, excluded), *oddity_notes(rows)]
    if purpose == "train":
        _check_training(rows)
    manifest = Manifest(
        root=listing.root,
        rows=tuple(rows),
        classes=tuple(sorted({row.label for row in rows})),
        excluded=excluded.by_path(),
        given=given,
        notes=tuple(text for _, text in notes),
        facts=known,
        near=() if alike is None else alike.paths(pictures),
        source=listing.name,
        columns=listing.columns,
        besides=listing.besides,
    )
    return manifest, notes, alike, torn


def _nothing_usable(listing: Listing, excluded: LeftOut) -> DataError:
    reasons = excluded.counts
    next_step = "Allowed are JPEG, PNG, WebP, GIF, BMP and TIFF pictures, with a folder for each class."
    if reasons["outside_root"] >= 0.9 * len(excluded) > 0:
        next_step = (
            "A table's pictures lie in its own folder or below: put the table into a folder above the pictures, "
            "or write the paths relative to the table."
        )
    return DataError(
        "no_pictures",
        f"None of the {len(excluded)} file(s) in {shown(listing.name)} can be used: "
        f"{', '.join(f'{count} {code}' for code, count in reasons.most_common()) or 'there are none'}.",
        next_step,
    )


def _check_classes(pictures: Sequence[Picture], given: Sequence[Split]) -> None:
    labels = {picture.label for picture in pictures}
    if len(labels) < 2:
        raise DataError(
            "one_class",
            f"Training needs two classes or more, and all pictures are in one: {some(sorted(labels))}.",
            "Add pictures of what it is to be told apart from.",
        )
    if given and "train" not in given:
        raise DataError(
            "no_train_split",
            f"The pictures come as {' and '.join(given)}, with none to train on.",
            "Add a train split, or leave the splits out.",
        )


def _check_training(rows: Sequence[Row]) -> None:
    trained = {row.label for row in rows if row.split == "train"}
    strange = sorted({row.label for row in rows} - trained)
    if strange:
        raise DataError(
            "class_not_in_train",
            f"{len(strange)} class(es) have no usable picture in the train split: {some(strange)}.",
            "Add training pictures of them, or take them out of the other splits.",
        )


def _class_notes(listing: Listing, rows: Sequence[Row], excluded: LeftOut) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []
    counts = Counter(row.label for row in rows)
    lost = sorted(set(listing.labels) - set(counts))
    if lost:
        notes.append(("warning", f"Left out, for no file in them can be used: {some(lost)}."))
    single = sorted(label for label, count in counts.items() if count == 1)
    if single:
        notes.append(("warning", f"One picture is all there is of: {some(single)}."))
    unlabelled = excluded.counts["no_label"]
    if unlabelled:
        stray = "without a label" if listing.tabled else "outside of any class folder"
        notes.append(("warning", f"{unlabelled} picture(s) {stray} were left out."))
    if there := excluded.counts[UNLABELLED]:
        words = "lie in a folder for those without a label: it is no class, and nothing is measured on them"
        notes.append(("info", f"{there:,} picture(s) {words}."))
    folded: dict[str, list[str]] = {}
    for label in sorted(counts):
        folded.setdefault(label.casefold(), []).append(label)
    for twins in folded.values():
        if len(twins) > 1:
            notes.append(("warning", f"Labels that differ in upper and lower case alone: {some(twins)}."))
    linked = First(excluded.of(*_NOT_FOLLOWED))
    if linked:
        notes.append(
            (
                "warning",
                f"{len(linked)} link(s) or mounts to folders or out of the data were not followed: {some(linked)}.",
            )
        )
    most, least = max(counts.values()), min(counts.values())
    if most >= _UNEVEN * least:
        notes.append(
            (
                "warning",
                f"Classes are uneven, {least:,} to {most:,} pictures: look at balanced accuracy and macro F1, which "
                "count every class equally.",
            )
        )
    present = {split: {row.label for row in rows if row.split == split} for split in SPLITS}
    for split in ("val", "test"):
        missing = sorted(present["train"] - present[split])
        if present[split] and missing:
            notes.append(("warning", f"The {split} split has no picture of: {some(missing)}."))
    return notes
