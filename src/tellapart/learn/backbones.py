"""Pretrained weights: which are at hand, and what their files say. No torch is needed to look.

A backbone is a folder with `config.json` and `model.safetensors`, as timm writes and reads them. It is looked for in
`$TELLAPART_WEIGHTS/<timm name>/`, then in the Hugging Face hub's cache on this disk. Weights in pickle files are not
taken.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tellapart.errors import RecipeError, did_you_mean

__all__ = [
    "Weights",
    "default_backbone",
    "find_weights",
    "hub_cache",
    "known_to_timm",
    "names_at_hand",
    "smallest_backbone",
    "why_no_weights",
]

_LOCAL = "local-dir:"
_CONFIG = "config.json"
_TENSORS = "model.safetensors"

# A rough price list, only to keep a run from starting on a network that cannot be done in time: multiply-adds for each
# parameter at 224 px (MobileNetV2 136, ResNet-50 160, ViT-B 204), and how many one processor thread does in a second.
_MULTIPLY_ADDS_PER_PARAMETER = 200
_MULTIPLY_ADDS_PER_SECOND = 30e9


@dataclasses.dataclass(frozen=True)
class Weights:
    """A backbone's files. `digest` is 64 hex digits over both of them; `licence` is as they state it, else None."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    digest: str
    licence: str | None

    @property
    def input_config(self) -> Mapping[str, Any]:
        """What the weights were trained with: `input_size`, `mean`, `std`, `interpolation`."""
        inner = self.config.get("pretrained_cfg")
        return inner if isinstance(inner, Mapping) else self.config

    @property
    def image_size(self) -> int:
        """The side in pixels of the pictures the weights were trained on."""
        size = self.input_config.get("input_size")
        return int(size[-1]) if isinstance(size, list | tuple) and size else 224


def find_weights(name: str) -> Weights | None:
    """Return the weights of a timm name or of `local-dir:PATH` from this disk, or None when they are not here.

    Raises RecipeError: `no_such_weights` for a folder that holds none, `unknown_backbone` for a name that timm does not
    know either, with what is at hand.
    """
    if name.startswith(_LOCAL):
        folder = Path(name.removeprefix(_LOCAL)).expanduser()
        if not _is_backbone(folder):
            raise RecipeError(
                "no_such_weights",
                f"--backbone got {name!r}; {folder} has to be a folder that holds {_CONFIG} and {_TENSORS}.",
                "Give such a folder, for example one written by timm.models.save_for_hf.",
            )
        return _read(folder, None)
    folders = _folders_at_hand()
    if name in folders:
        return _read(folders[name], name)
    tagged = sorted(known for known in folders if known.partition(".")[0] == name)
    if tagged:
        return _read(folders[tagged[0]], tagged[0])
    if known_to_timm(name) is False:
        here = sorted(folders)
        raise RecipeError(
            "unknown_backbone",
            f"--backbone got {name!r}, which is not a timm name."
            f"{did_you_mean(name, here) or did_you_mean(name, _timm_names())}",
            f"At hand are {', '.join(here)}." if here else "Set TELLAPART_WEIGHTS to a folder of backbones.",
        )
    return None


def names_at_hand() -> list[str]:
    """Return the names whose weights are on this disk, sorted."""
    return sorted(_folders_at_hand())


def default_backbone(num_pictures: int | None = None, seconds: float | None = None) -> str | None:
    """Return the name at hand with the most parameters (the classifier aside), or None when there is none.

    With `num_pictures` and `seconds`, those whose embedding would roughly take longer than that are passed over; when
    all would, the smallest is returned.
    """
    sized = _by_size()
    if not sized:
        return None
    if num_pictures is not None and seconds is not None:
        for parameters, name, config in sized:
            side = Weights(name, Path(), config, "", None).image_size
            work = parameters * _MULTIPLY_ADDS_PER_PARAMETER * (side / 224) ** 2
            if num_pictures * work / _MULTIPLY_ADDS_PER_SECOND / (os.cpu_count() or 1) <= seconds:
                return name
        return sized[-1][1]
    return sized[0][1]


def smallest_backbone() -> str | None:
    """Return the name at hand with the fewest parameters, or None when there is none."""
    sized = _by_size()
    return sized[-1][1] if sized else None


def _by_size() -> list[tuple[int, str, dict[str, Any]]]:
    """Return parameters, name and configuration of what is at hand, the largest first."""
    sized = []
    for name, folder in _folders_at_hand().items():
        try:
            sized.append((_num_parameters(folder), name, _read_config(folder)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(sized, key=lambda entry: (-entry[0], entry[1]))


def known_to_timm(name: str) -> bool | None:
    """Return whether timm has a network of this name (a tag after a dot aside), or None where that cannot be told."""
    names = _timm_names()
    return name.partition(".")[0] in names if names else None


def why_no_weights(name: str | None) -> str:
    """Return half a sentence on why there are no weights, for the report."""
    what = f"no weights of {name} are" if name else "no pretrained weights are"
    return f"{what} in $TELLAPART_WEIGHTS or in the hub's cache"


def _folders_at_hand() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, folder in [*_named_folders(), *_hub_folders()]:
        if name not in found and _is_backbone(folder):
            found[name] = folder
    return found


def _named_folders() -> Iterator[tuple[str, Path]]:
    root = os.environ.get("TELLAPART_WEIGHTS")
    if root and Path(root).is_dir():
        for folder in sorted(Path(root).iterdir()):
            yield folder.name, folder


def _hub_folders() -> Iterator[tuple[str, Path]]:
    root = hub_cache()
    if not root.is_dir():
        return
    prefix = "models--timm--"
    for repository in sorted(root.glob(f"{prefix}*")):
        snapshots = sorted((repository / "snapshots").glob("*"))
        reference = repository / "refs" / "main"
        if reference.is_file():
            current = repository / "snapshots" / reference.read_text(encoding="ascii", errors="replace").strip()
            snapshots = [current, *snapshots]
        for snapshot in snapshots:
            if _is_backbone(snapshot):
                yield repository.name.removeprefix(prefix), snapshot
                break


def hub_cache() -> Path:
    """Return where huggingface_hub keeps what it fetched (its own rules, its own variables)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "huggingface" / "hub"


def _is_backbone(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() and (folder / _TENSORS).is_file()


def _read_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise ValueError(f"{_CONFIG} names no architecture")
    return config


def _read(folder: Path, name: str | None) -> Weights:
    try:
        config = _read_config(folder)
        digest = hashlib.sha256((folder / _CONFIG).read_bytes())
        with (folder / _TENSORS).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except (OSError, ValueError) as error:
        raise RecipeError(
            "no_such_weights",
            f"The backbone in {folder} cannot be read ({error}).",
            "Copy it there again, or choose another --backbone.",
        ) from None
    inner = config.get("pretrained_cfg")
    stated = (inner.get("license") if isinstance(inner, dict) else None) or config.get("license")
    return Weights(name or config["architecture"], folder, config, digest.hexdigest(), str(stated) if stated else None)


def _num_parameters(folder: Path) -> int:
    """Count from the head of the safetensors file: 8 bytes of length, then JSON with every tensor's shape."""
    config = _read_config(folder)
    inner = config.get("pretrained_cfg")
    classifier = (inner if isinstance(inner, dict) else config).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    with (folder / _TENSORS).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 100_000_000:
            raise ValueError("not a safetensors file")
        tensors = json.loads(file.read(length))
    return sum(
        math.prod(tensor["shape"])
        for key, tensor in tensors.items()
        if key != "__metadata__" and not any(key == head or key.startswith(f"{head}.") for head in heads)
    )


@functools.cache
def _timm_names() -> frozenset[str]:
    """Read the names of timm's networks out of its source: importing timm takes seconds, this some milliseconds."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    pattern = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
    names: set[str] = set()
    for source in Path(spec.origin).parent.glob("models/*.py"):
        names.update(pattern.findall(source.read_text(encoding="utf-8", errors="replace")))
    return frozenset(names)
