"""What the folders of a data set mean: a folder per class, or the same below train, val and test."""

from __future__ import annotations

import os
import sys
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tellapart.data.listing import (
    Entries,
    First,
    Listing,
    Said,
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
from tellapart.events import Progress, Steps
from tellapart.recipe import DataOptions

__all__ = ["list_folder"]

_TELL_EVERY = 1000
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def list_folder(tree: Tree, options: DataOptions) -> Steps[Listing]:
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
    if hidden := First(item.path for item in tree.excluded if item.code == "hidden_folder"):
        words = f"{len(hidden)} hidden folder(s) hold pictures, which are not used: {some(hidden)}."
        notes.append(("warning", f"{words} Where one is a class, give it a name that does not begin with a dot."))
    tops = list(dict.fromkeys(folder.partition("/")[0] for folder in tree.filled if folder))
    if not tops:
        _refuse_flat(tree)
    splits = _split_folders(tree, tops)
    base = 1 if splits else 0
    whole = options.nested == "path"
    said = {folder: _said(folder, base, splits, whole) for folder in tree.filled}
    entries = Entries(tree.files, said)
    if options.nested == "stop":
        yield from _check_nesting(tree, said, base, entries.labels)
    if options.unlabelled == "stop":
        yield from _refuse_unlabelled(tree, said, entries)
    _check_names(said, base, whole)
    notes += _empty_classes(tree, base, splits, said)
    return Listing(tree.root, tree.name, entries, tree.excluded, splits=bool(splits), notes=notes)


def _said(folder: str, base: int, splits: dict[str, Split], whole: bool) -> Said:
    """Return what a folder says of the files right in it."""
    parts = folder.split("/") if folder else []
    split = splits.get(parts[0]) if base and parts else None
    if any(is_unlabelled(name) for name in parts[: base + 1]) and split in (None, "train"):
        return None, None, True
    if len(parts) <= base or (base and split is None) or is_unlabelled(parts[base]):
        return None, None, False
    return sys.intern(class_key(_class_folder(parts, base, whole))), split, False


def _class_folder(parts: Sequence[str], base: int, whole: bool) -> str:
    return "/".join(parts[base:]) if whole else parts[base]


def _below(tree: Tree, top: str) -> Iterator[str]:
    """Yield the paths below a top folder, which are together where paths are sorted."""
    files = tree.files
    first, end = bisect_left(files, f"{top}/"), bisect_left(files, f"{top}0")  # a zero comes right after a slash
    return files.between(first, end)


def _split_folders(tree: Tree, tops: Sequence[str]) -> dict[str, Split]:
    """Return which top folders are splits, or nothing for a folder per class."""
    root, name = tree.root, tree.name
    named = {top: split for top in tops if (split := split_of(top)) is not None}
    if not named:
        return {}
    others = [top for top in tops if top not in named and not is_unlabelled(top)]
    deep = any(_holds_picture(root, (path for path in _below(tree, top) if path.count("/") >= 2)) for top in named)
    if not deep:
        if others or not any(_holds_picture(root, _below(tree, top)) for top in named):
            return {}
        raise DataError(
            "no_classes",
            f"{some([f'{top}/' for top in sorted(named)])} in {shown(name)} hold pictures but no class folders.",
            "Put a folder for each class into each of them, or give a table with the columns path and label.",
        )
    strangers = [top for top in others if _holds_picture(root, _below(tree, top))]
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
    table = next((path for path in tree.files if path.lower().endswith(_TABLES)), None)
    step = f"Give the table itself, {shown(os.path.join(tree.name, table))}, or p" if table else "P"
    raise DataError(
        "no_classes",
        f"{shown(tree.name)} holds {len(tree.files)} file(s) but no class folders with files in them.",
        f"{step}ut the pictures of each class into a folder of its own.",
    )


def _check_nesting(tree: Tree, said: Mapping[str, Said], base: int, labels: Collection[str]) -> Steps[None]:
    root, name = tree.root, tree.name
    deep = {folder for folder, (_, _, unlabelled) in said.items() if folder.count("/") > base and not unlabelled}
    if not deep:
        return
    found = None
    for count, path in enumerate(tree.files):
        if path.count("/") > base + 1 and path.rpartition("/")[0] in deep and is_picture(root / path):
            found = path
            break
        if count % _TELL_EVERY == 0:
            yield Progress("scan", count, len(tree.files), "files")
    if found is None:
        return
    parts = found.split("/")
    outer = sorted(labels)
    inner = sorted({"/".join(folder.split("/")[base:]) for folder in deep})
    step = "Say which by --nested first (the outer folders) or --nested path (the whole paths)."
    if len(outer) == 1 and name == str(root):
        step = f"If the classes are the folders inside, give {shown(str(root.joinpath(*parts[: base + 1])))}. {step}"
    raise DataError(
        "nested_classes",
        f"{shown('/'.join(parts[:-1]))}/ holds pictures inside a class folder, so that {shown(name)} can be read "
        f"in two ways: the classes {some(outer, 4)}, or the classes {some(inner, 4)}.",
        step,
    )


def _refuse_unlabelled(tree: Tree, said: Mapping[str, Said], entries: Entries) -> Steps[None]:
    if all(label is not None or unlabelled for label, _, unlabelled in said.values()):
        return
    stray = First()
    for count, entry in enumerate(entries):
        if entry.label is None and not entry.unlabelled and is_picture(tree.root / entry.path):
            stray.append(entry.path)
        if count % _TELL_EVERY == 0:
            yield Progress("scan", count, len(entries), "files")
    if stray:
        raise DataError(
            "unlabelled_pictures",
            f"{len(stray)} picture(s) in {shown(tree.name)} are in no class folder: {some(stray)}.",
            "Put each into the folder of its class, or leave them out by --unlabelled skip.",
        )


def _check_names(said: Mapping[str, Said], base: int, whole: bool) -> None:
    """Refuse class folders that a reader, or another disk, could not tell apart."""
    written: dict[tuple[Split | None, str], str] = {}
    folded: dict[str, str] = {}
    for folder, (label, split, _) in said.items():
        if label is None:
            continue
        name = _class_folder(folder.split("/"), base, whole)
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                "class_name",
                f"The class folder {quoted(name)} has a name that is not valid UTF-8.",
                "Rename it: its name is what the class will be called.",
            )
        first = written.setdefault((split, label), name)
        if first != name:
            raise DataError(
                "class_twice",
                f"Two class folders are both called {quoted(label)}, in two spellings of Unicode (NFC, NFD).",
                "Merge them, or rename one.",
            )
        other = folded.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                "class_twice",
                f"The class folders {quoted(other)} and {quoted(label)} differ in upper and lower case alone.",
                "Merge them, or rename one.",
            )


def _empty_classes(tree: Tree, base: int, splits: dict[str, Split], said: Mapping[str, Said]) -> list[tuple[str, str]]:
    full = {"/".join(folder.split("/")[: base + 1]) for folder, (label, _, _) in said.items() if label is not None}
    empty = [
        path
        for path in tree.folders
        if path.count("/") == base
        and path not in full
        and (not base or path.split("/")[0] in splits)
        and not is_unlabelled(path.split("/")[base])
    ]
    return [("warning", f"Empty class folder(s), left out: {some(empty)}.")] if empty else []
