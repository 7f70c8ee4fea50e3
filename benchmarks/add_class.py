"""A class added instead of trained with the others: python -m benchmarks.add_class [--sets clothing_small,digits]

A bundle is trained without one class, which is then added from all of its training pictures: with the run's own
pictures at hand, and with the references in the bundle alone. Beside it a full training on all classes. All three are
measured on the same test split, which chooses nothing. To reach: within 1 point of full training.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import tellapart
from benchmarks import measure
from tellapart.data.digits import write_digits

BACKBONE = "mobilenetv2_100"
SOME = {"cifar10": {"train": 500, "test": 150}}


def folder_of(name: str, data: Path, work: Path) -> Path:
    """Return a set with train and test folders; of the digits every fourth picture is test."""
    if name != "digits":
        whole = measure.unpacked(name, data, work)
        return measure.subset(whole, work / "data" / f"{name}-some", SOME[name]) if name in SOME else whole
    folder = work / "data" / "digits-split"
    if not folder.is_dir():
        write_digits(work / "data" / "digits-flat")
        for label in sorted((work / "data" / "digits-flat").iterdir()):
            for number, picture in enumerate(sorted(label.iterdir())):
                target = folder / ("test" if number % 4 == 0 else "train") / label.name
                target.mkdir(parents=True, exist_ok=True)
                os.link(picture, target / picture.name)
    return folder


def without(whole: Path, label: str, to: Path) -> Path:
    """Return a copy of a set, by links, that lacks one class."""
    shutil.rmtree(to, ignore_errors=True)
    for picture in whole.rglob("*"):
        if picture.is_file() and picture.parent.name != label:
            target = to / picture.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(picture, target)
    return to


def accuracy(bundle: Path, data: Path) -> dict[str, float]:
    """Return what `evaluate` says of the test split."""
    found = tellapart.evaluate(bundle, data).as_json()
    return {name: found[name] for name in ("n", "accuracy", "balanced_accuracy", "log_loss", "ece")}


def compared(whole: Path, label: str, work: Path) -> dict[str, Any]:
    """Train without a class, add it in two ways, and train with it."""
    options: dict[str, Any] = {"method": "probe", "backbone": BACKBONE, "budget": "10m"}
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tellapart.train(without(whole, label, work / "without"), out=work / "run", **options)
    began = time.monotonic()
    tellapart.train(whole, out=work / "full", **options)
    told: dict[str, Any] = {"full_seconds": time.monotonic() - began, "full": accuracy(work / "full/bundle", whole)}
    pictures = whole / "train" / label
    shutil.copytree(work / "run/bundle", work / "alone/bundle")
    for how, parent in (("run", work / "run/bundle"), ("references", work / "alone/bundle")):
        added = tellapart.add_class(parent, label, pictures, out=work / f"with-{how}")
        told[how] = accuracy(work / f"with-{how}", whole)
        told[f"{how}_seconds"] = added.seconds
        told[f"{how}_points"] = 100 * (told[how]["accuracy"] - told["full"]["accuracy"])
        assert added.source == how
    return told


def main() -> None:
    """Print one JSON object a class."""
    parser = measure.options(__doc__)
    parser.add_argument("--sets", default="clothing_small,cifar10,digits")
    parser.add_argument("--classes", type=int, default=1, help="how many classes of each set are left out in turn")
    arguments = parser.parse_args()
    os.environ["TELLAPART_WEIGHTS"] = str(arguments.weights)
    os.environ["TELLAPART_CACHE"] = str(arguments.work / "cache")
    for name in arguments.sets.split(","):
        whole = folder_of(name, arguments.data, arguments.work)
        labels = sorted(path.name for path in (whole / "train").iterdir())
        for label in labels[:: max(1, len(labels) // arguments.classes)][: arguments.classes]:
            told = compared(whole, label, arguments.work / "add-class" / name)
            print(json.dumps({"set": name, "class": label, **told}), flush=True)


if __name__ == "__main__":
    main()
