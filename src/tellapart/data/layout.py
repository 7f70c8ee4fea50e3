"""What the folders of a data set mean: a folder per class, or the same below train, val and test."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tellapart.data.listing import (
    Entries,
    Entry,
    Listing,
    class_key,
    is_picture,
    is_unlabelled,
    quoted,
    shown,
    some,
    split_of,
)
from tellapart.data.manifest import Split
from tellapart.data.walk import Tree
from tellapart.errors import DataError
from tellapart.recipe import DataOptions

__all__ = ["list_folder"]

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def list_folder(tree: Tree, options: DataOptions) -> Listing:
    """Return what a folder lists. Raises DataError, with what to do, where its layout can be read in two ways.

    `options.nested` says what folders inside class folders are: a reason to stop, parts of their class (`first`), or
    classes by their whole path (`path`). `options.unlabelled` says whether pictures outside of classes are.
    """
    if not tree.files and not tree.excluded:
        raise DataError(
            "empty_folder",
            f"{shown(tree.name)} holds no files.",
            "Give a folder with a folder of pictures for each class.",
        )
    notes: list[tuple[str, str]] = []
    if tree.ignored:
        notes.append(("info", f"Ignored {tree.ignored} hidden or system file(s) and folder(s)."))
    if hidden := [item.path for item in tree.excluded if item.code == "hidden_folder"]:
        words = f"{len(hidden)} hidden folder(s) hold pictures, which are not used: {some(hidden)}."
        notes.append(("warning", f"{words} Where one is a class, give it a name that does not begin with a dot."))
    below: dict[str, list[str]] = {}
    for path in tree.files:
        top, slash, _ = path.partition("/")
        if slash:
            below.setdefault(top, []).append(path)
    if not below:
        _refuse_flat(tree)
    splits = _split_folders(tree, below)
    base = 1 if splits else 0
    whole = options.nested == "path"
    labels: dict[str, str] = {}
    entries = Entries(tree.files, lambda path: _entry(path, base, splits, whole, labels))
    if options.nested == "stop":
        deep = [entry.path for entry in entries if entry.path.count("/") > base + 1 and not entry.unlabelled]
        _check_nesting(tree, deep, entries, base)
    if options.unlabelled == "stop":
        _refuse_unlabelled(tree, entries)
    _check_names(entries, base, whole)
    notes += _empty_classes(tree, base, splits, entries)
    return Listing(tree.root, tree.name, entries, tree.excluded, splits=bool(splits), notes=notes)


def _entry(path: str, base: int, splits: dict[str, Split], whole: bool, labels: dict[str, str]) -> Entry:
    """Return the entry of a path; `labels` holds each label once, however many files have it."""
    parts = path.split("/")
    split = splits.get(parts[0]) if base else None
    if any(is_unlabelled(name) for name in parts[: base + 1][: len(parts) - 1]) and split in (None, "train"):
        return Entry(path, None, unlabelled=True)
    if len(parts) < base + 2 or (base and split is None) or is_unlabelled(parts[base]):
        return Entry(path, None)
    label = class_key(_class_folder(parts, base, whole))
    return Entry(path, labels.setdefault(label, label), split)


def _class_folder(parts: Sequence[str], base: int, whole: bool) -> str:
    return "/".join(parts[base:-1]) if whole else parts[base]


def _split_folders(tree: Tree, below: dict[str, list[str]]) -> dict[str, Split]:
    """Return which top folders are splits, or nothing for a folder per class."""
    root, name = tree.root, tree.name
    named = {top: split for top in below if (split := split_of(top)) is not None}
    if not named:
        return {}
    others = [top for top in below if top not in named and not is_unlabelled(top)]
    deep = any(_holds_picture(root, (path for path in below[top] if path.count("/") >= 2)) for top in named)
    if not deep:
        if others or not any(_holds_picture(root, below[top]) for top in named):
            return {}
        raise DataError(
            "no_classes",
            f"{some([f'{top}/' for top in sorted(named)])} in {shown(name)} hold pictures but no class folders.",
            "Put a folder for each class into each of them, or give a table with the columns path and label.",
        )
    strangers = [top for top in others if _holds_picture(root, below[top])]
    if strangers:
        raise DataError(
            "ambiguous_layout",
            f"{shown(name)} can be read in two ways: as splits ({', '.join(map(shown, sorted(named)))}) beside "
            f"unlabelled pictures ({some(sorted(strangers))}), or as classes of those names.",
            "Move the folders that are no splits out of it.",
        )
    for split in sorted(set(named.values())):
        twins = sorted(top for top, other in named.items() if other == split)
        if len(twins) > 1:
            raise DataError(
                "split_twice", f"The folders {some(twins)} both mean the split {split}.", "Merge them into one."
            )
    return named


def _holds_picture(root: Path, paths: Iterable[str]) -> bool:
    return any(is_picture(root / path) for path in paths)


def _refuse_flat(tree: Tree) -> None:
    tables = [path for path in tree.files if path.lower().endswith(_TABLES)]
    step = f"Give the table itself, {shown(os.path.join(tree.name, tables[0]))}, or p" if tables else "P"
    raise DataError(
        "no_classes",
        f"{shown(tree.name)} holds {len(tree.files)} file(s) but no class folders with files in them.",
        f"{step}ut the pictures of each class into a folder of its own.",
    )


def _check_nesting(tree: Tree, deep: Sequence[str], entries: Sequence[Entry], base: int) -> None:
    root, name = tree.root, tree.name
    found = next((path for path in deep if is_picture(root / path)), None)
    if found is None:
        return
    parts = found.split("/")
    outer = sorted({entry.label for entry in entries if entry.label is not None})
    inner = sorted({"/".join(path.split("/")[base:-1]) for path in deep})
    step = "Say which by --nested first (the outer folders) or --nested path (the whole paths)."
    if len(outer) == 1 and name == str(root):
        step = f"If the classes are the folders inside, give {shown(str(root.joinpath(*parts[: base + 1])))}. {step}"
    raise DataError(
        "nested_classes",
        f"{shown('/'.join(parts[:-1]))}/ holds pictures inside a class folder, so that {shown(name)} can be read "
        f"in two ways: the classes {some(outer, 4)}, or the classes {some(inner, 4)}.",
        step,
    )


def _refuse_unlabelled(tree: Tree, entries: Sequence[Entry]) -> None:
    stray = [
        entry.path
        for entry in entries
        if entry.label is None and not entry.unlabelled and is_picture(tree.root / entry.path)
    ]
    if stray:
        raise DataError(
            "unlabelled_pictures",
            f"{len(stray)} picture(s) in {shown(tree.name)} are in no class folder: {some(stray)}.",
            "Put each into the folder of its class, or leave them out by --unlabelled skip.",
        )


def _check_names(entries: Sequence[Entry], base: int, whole: bool) -> None:
    """Refuse class folders that a reader, or another disk, could not tell apart."""
    written: dict[tuple[Split | None, str], str] = {}
    folded: dict[str, str] = {}
    for entry in entries:
        if entry.label is None:
            continue
        name = _class_folder(entry.path.split("/"), base, whole)
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                "class_name",
                f"The class folder {quoted(name)} has a name that is not valid UTF-8.",
                "Rename it: its name is what the class will be called.",
            )
        first = written.setdefault((entry.split, entry.label), name)
        if first != name:
            raise DataError(
                "class_twice",
                f"Two class folders are both called {quoted(entry.label)}, in two spellings of Unicode (NFC, NFD).",
                "Merge them, or rename one.",
            )
        other = folded.setdefault(entry.label.casefold(), entry.label)
        if other != entry.label:
            raise DataError(
                "class_twice",
                f"The class folders {quoted(other)} and {quoted(entry.label)} differ in upper and lower case alone.",
                "Merge them, or rename one.",
            )


def _empty_classes(tree: Tree, base: int, splits: dict[str, Split], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    full = {"/".join(entry.path.split("/")[: base + 1]) for entry in entries if entry.label is not None}
    empty = [
        path
        for path in tree.folders
        if path.count("/") == base
        and path not in full
        and (not base or path.split("/")[0] in splits)
        and not is_unlabelled(path.split("/")[base])
    ]
    return [("warning", f"Empty class folder(s), left out: {some(empty)}.")] if empty else []
