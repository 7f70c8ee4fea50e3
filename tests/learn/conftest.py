"""Backbones small enough to be made on the spot, and the export of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest

from tellapart.events import Event
from tellapart.learn.rungs import Pictures

if TYPE_CHECKING:
    from tellapart.learn.backbones_export import Graph

T = TypeVar("T")


def finished(steps: Generator[Event, None, T], seen: list[Event] | None = None) -> T:
    """Drive steps to their end and return their result; what they yield goes to `seen`."""
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if seen is not None:
            seen.append(event)


def pictures_in(folder: Path) -> Pictures:
    """Return the pictures of a class folder, each a group of its own."""
    files, targets = [], []
    for target, label in enumerate(sorted(path.name for path in folder.iterdir())):
        found = sorted((folder / label).iterdir())
        files += found
        targets += [target] * len(found)
    digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return Pictures(tuple(files), digests, digests, np.array(targets, dtype=np.int64))


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """`run(steps, seen=None)` drives steps to their end."""
    return finished


@pytest.fixture(scope="session")
def photo_pictures(photos: Path) -> Pictures:
    """The pictures of `photos`: two classes that are easily told apart, 24 of each, 32x32 px."""
    return pictures_in(photos)


@pytest.fixture(scope="session")
def weights_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `$TELLAPART_WEIGHTS` with a convolutional backbone of 350,000 random weights: `test_efficientnet`.

    Its batch norms hold statistics that are not those of any batch, its mean and deviation are not the usual ones.
    """
    import torch
    from safetensors.torch import save_file

    from tellapart.learn.torch_export import import_timm

    root = tmp_path_factory.mktemp("weights")
    folder = root / "test_efficientnet"
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = import_timm().create_model("test_efficientnet")
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    config = {
        "architecture": "test_efficientnet",
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3],
            "interpolation": "bilinear",
            "classifier": "classifier",
            "first_conv": "conv_stem",
            "num_classes": 1000,
            "license": "mit",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return root


@pytest.fixture(scope="session")
def exported(weights_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    """The graph of `test_efficientnet`, exported in a child process, and the cache it is in. Not to be changed."""
    from tellapart.learn.backbones import find_weights
    from tellapart.learn.backbones_export import start_export

    cache = tmp_path_factory.mktemp("exported")
    weights = find_weights(f"local-dir:{weights_root / 'test_efficientnet'}")
    assert weights is not None
    with start_export(weights, None, cache) as export:
        return finished(export.wait()), cache
