"""The audit on planted faults, beside CleanVision and cleanlab on the same files: python -m benchmarks.audit

They are installed in an environment of their own. Recall is of planted pictures, false alarms are of those without a
fault (of 100 clean ones, so many named). cleanlab gets the audit's own out-of-fold predictions.
To reach: duplicates and leaks >= 90 %, false alarms <= 2 % for each check, 70 % of 5 % wrong labels in the top 7 %.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, planted
from tellapart.cache import cache_root
from tellapart.data.audit import REGISTRY
from tellapart.data.audit.label_suspect import believed, with_neighbours
from tellapart.driving import finish
from tellapart.ladder.check import looked_at
from tellapart.ladder.clock import Clock
from tellapart.recipe import Recipe

PEER = Path(__file__).with_name("peer_cleanvision.py")
COPIES = ("duplicate", "near_duplicate", "split_leak", "identical_in_two_classes", "unreadable")
THEIRS = {
    "duplicate": ("exact_duplicates",),
    "near_duplicate": ("near_duplicates", "exact_duplicates"),
    "blank": ("low_information", "light", "dark"),
    "dark": ("dark",),
    "bright": ("light",),
    "blurred": ("blurry",),
    "grey": ("grayscale",),
    "odd_size": ("odd_size", "odd_aspect_ratio"),
}


def peer(work: Path) -> Path:
    """Return the Python of an environment with CleanVision and cleanlab, made on the first call."""
    folder = work / "cleanlab"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--no-config", str(folder)], check=True)
        install = ["uv", "pip", "install", "--quiet", "--no-config", "--python", str(python)]
        subprocess.run([*install, "cleanvision==0.3.*", "cleanlab==2.9.*"], check=True)
        measure.ran([python, "-c", "import cleanvision, cleanlab.filter"])
        (folder / "ready").touch()
    return python


def share(found: Collection[str], of: Collection[str]) -> float | None:
    """Return which share of the paths `of` was found."""
    return len(set(found) & set(of)) / len(of) if of else None


def faults(name: str, source: Path, work: Path, python: Path, env: dict[str, Any]) -> list[dict[str, Any]]:
    """Plant duplicates, leaks and bad quality; return a row for each kind and each program."""
    folder = measure.fresh(work / "planted" / name)
    told = planted.plant(source, folder / "data")
    ours = measure.ran([measure.tellapart(), "check", folder / "data", "--out", folder / "page", "--json"], env)
    named = {f["check"]: [row["path"] for row in f["rows"]] for f in ours.json["findings"]}
    for path in told["unreadable"]:  # CleanVision ends with a trace at the first broken picture
        (folder / "data" / path).unlink()
    theirs = measure.ran([python, PEER, folder / "data"]).json
    files = [str(path.relative_to(folder / "data")) for path in (folder / "data").rglob("*") if path.is_file()]
    spoilt = {path for paths in told.values() for path in paths}
    # The picture that a copy was made of is named with it, and is no false alarm.
    alike = {path for check in COPIES for path in named.get(check, ())}
    clean = set(files) - spoilt
    rows = []
    for kind, paths in told.items():
        check = kind if kind in COPIES else "quality"
        said = [*named.get(check, ()), *(named.get("duplicate", ()) if kind == "near_duplicate" else ())]
        cv = [path for column in THEIRS.get(kind, ()) for path in theirs["found"].get(column, ())]
        innocent = clean - (alike if kind in COPIES else set())
        rows.append(
            {
                "set": name,
                "fault": kind,
                "n": len(paths),
                "recall": share(said, paths),
                "cleanvision": share(cv, paths) if kind in THEIRS else None,
                "clean_named": len(set(said) & innocent) / len(clean),
                "cleanvision_clean": len(set(cv) & innocent) / len(clean) if kind in THEIRS else None,
                "seconds": ours.seconds,
                "cleanvision_s": theirs["seconds"],
            }
        )
    shutil.rmtree(folder / "data")
    return rows


def labels(name: str, source: Path, work: Path, python: Path, noise: float) -> dict[str, Any]:
    """Plant wrong labels; return how many of them the two rankings and lists hold."""
    folder = measure.fresh(work / "planted" / f"{name}-labels")
    wrong = set(planted.wrong_labels(source, folder / "data", noise))
    steps = looked_at(folder / "data", Recipe.of(near_duplicates="off"), cache_root(), Clock(600.0))
    _, evidence, _ = finish(steps)
    targets = evidence.targets[evidence.predicted]
    is_wrong = np.array([evidence.paths[row] in wrong for row in evidence.predicted.tolist()])
    top = int(0.07 * len(targets))
    order = np.argsort(-believed(with_neighbours(evidence), targets)[0], kind="stable")[:top]
    finding = REGISTRY["label_suspect"](evidence)
    listed = {row.path for row in finding.rows} if finding is not None else set()
    ours = np.array([evidence.paths[row] in listed for row in evidence.predicted.tolist()])
    np.savez(folder / "probs.npz", probs=evidence.probs, targets=targets)
    theirs = measure.ran([python, PEER, folder / "probs.npz"]).json
    flagged = np.zeros(len(targets), dtype=bool)
    flagged[theirs["flagged"]] = True
    shutil.rmtree(folder / "data")
    many = max(1, int(is_wrong.sum()))
    return {
        "set": name,
        "noise": noise,
        "n": len(targets),
        "top7": is_wrong[order].sum() / many,
        "cleanlab_top7": is_wrong[theirs["order"][:top]].sum() / many,
        "listed": (ours & is_wrong).sum() / many,
        "cleanlab_listed": (flagged & is_wrong).sum() / many,
        "clean_named": float((ours & ~is_wrong).sum() / (~is_wrong).sum()),
        "cleanlab_clean": float((flagged & ~is_wrong).sum() / (~is_wrong).sum()),
    }


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--sets", nargs="+", default=["clothing", "cifar10", "generated"])
    parser.add_argument("--each", type=int, default=500, help="pictures of each class of CIFAR-10")
    wish = parser.parse_args()
    python = peer(wish.work)
    env = {"TELLAPART_CACHE": wish.work / "audit-cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    cifar = measure.subset(
        measure.unpacked("cifar10", wish.data, wish.work), wish.work / f"cifar10-{wish.each}", {"train": wish.each}
    )
    sets = {
        "clothing": measure.unpacked("clothing_small", wish.data, wish.work) / "train",
        "cifar10": cifar / "train",
        "generated": planted.generated(measure.fresh(wish.work / "generated")),
    }
    sets = {name: sets[name] for name in wish.sets}
    rows = [row for name, source in sets.items() for row in faults(name, source, wish.work, python, env)]
    measure.told("audit", rows)
    noisy = [
        labels(name, source, wish.work, python, noise)
        for name, source in sets.items()
        if name != "generated"
        for noise in (0.0, 0.05)
    ]
    if noisy:
        measure.told("audit_labels", noisy)


if __name__ == "__main__":
    main()
