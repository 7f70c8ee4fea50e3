"""Checkpoints: what a fit has come to, on disk, so that another process goes on to the same bits.

A checkpoint holds all of `State` between two steps. It is written under a temporary name, fsynced and renamed, with a
digest of its content in front; the one before it is kept. One that is torn or damaged is passed over for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from tellapart import files
from tellapart.errors import DataError
from tellapart.events import Decision, Epoch, Note, Progress, Steps
from tellapart.learn.schedule import Horizon
from tellapart.learn.torch_loop import State

__all__ = ["Checkpoints"]

_NAME, _FORMAT = b"tellapart checkpoint ", 3
_MAGIC = _NAME + b"%d\n" % _FORMAT
_DIGEST = 32
_PARTS = ("network", "average", "best", "optimizer")
# The fields of State that are plain values.
_PLAIN = (
    "most",
    "step",
    "falls",
    "ceiling",
    "batch",
    "due",
    "loss",
    "hits",
    "seen",
    "lr",
    "seconds",
    "micro_batch",
    "best_step",
    "best_loss",
)
_ANEW = "Start in a new folder, or remove the folder of checkpoints to begin the training anew."
_SHARE = 0.02  # of the time, at the most, is spent on writing
_SOON, _SLOW = 3.0, 50e6  # seconds in which a run that is to end still writes; bytes a second, where none was written


class Checkpoints:
    """The checkpoints of a run, in a folder of their own; one for each fit, by its name, and the one before it.

    `made_for` says what a checkpoint belongs to, by name; `every_seconds` is how much of a fit may be lost.
    """

    def __init__(
        self,
        folder: Path,
        made_for: Mapping[str, str],
        every_seconds: float = 30.0,
        speeds: list[float] | None = None,
    ) -> None:
        self._folder = folder
        self._made_for = dict(made_for)
        self._every = every_seconds
        self._next = time.monotonic() + every_seconds
        self._speeds: list[float] = [] if speeds is None else speeds  # bytes a second, of all fits of the run

    def about(self, **more: str) -> Checkpoints:
        """Return the same checkpoints, belonging to more."""
        return Checkpoints(self._folder, {**self._made_for, **more}, self._every, self._speeds)

    def restore(self, name: str, state: State) -> Steps[bool]:
        """Put back into `state` what the fit `name` had come to; return whether there was anything.

        A damaged one goes once the one before it was taken: kept, it would be moved onto that when the next is saved.
        Raises DataError (`other_checkpoint`) where that belongs to something else, or is of another version's format.
        """
        damaged: list[Path] = []
        for path in self._paths(name):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError:  # the disk cannot read it
                content = b""
            _check_format(path, content)
            held = _opened(content)
            if held is None:
                damaged.append(path)
                continue
            told, tensors = held
            self._check(path, told["made_for"])
            _put_back(state, told, tensors)
            for other in damaged:
                with contextlib.suppress(OSError):
                    other.unlink()
                yield Note("warning", f"The checkpoint {other.name} is damaged, so the one before it is taken.")
            yield Progress(name, state.step, state.horizon.total, "steps")
            return True
        if damaged:
            names = " and ".join(path.name for path in damaged)
            what = f"The checkpoint {names} is" if len(damaged) == 1 else f"The checkpoints {names} are"
            yield Note("warning", f"{what} damaged, and there is no other, so this fit begins anew.")
        return False

    def save_now_and_then(self, name: str, state: State, at_once: bool = False) -> None:
        """Save where the last time is long enough ago, or where a run is to end and writing does not keep it long.

        The fit must be between two steps, and not at its end.
        """
        if at_once:
            due = _bytes_of(state) <= _SOON * min(self._speeds[-3:], default=_SLOW)
        else:
            due = time.monotonic() >= self._next
        if due:
            self.save(name, state)

    def save(self, name: str, state: State) -> None:
        """Save; the checkpoint that was the newest becomes the one before. Raises OSError."""
        began = time.monotonic()
        tensors = {
            f"{part}.{key}": value.detach().cpu().contiguous().clone()
            for part, held in _tensors(state).items()
            for key, value in held.items()
        }
        plain = {key: getattr(state, key) for key in _PLAIN}
        events = [[type(event).__name__, dataclasses.asdict(event)] for event in state.told]
        told = {
            "made_for": self._made_for,
            "horizon": state.horizon.knots,
            "events": events,
            "ended": state.ended,
            **plain,
        }
        payload = save(tensors, {"told": json.dumps(told)})
        newest, before = self._paths(name)
        self._folder.mkdir(exist_ok=True)
        if newest.exists():
            newest.replace(before)
        files.write_bytes(newest, _MAGIC + hashlib.sha256(payload).digest() + payload)
        took = time.monotonic() - began
        self._speeds.append(len(payload) / max(took, 1e-3))
        self._next = time.monotonic() + max(self._every, took / _SHARE)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.checkpoint", self._folder / f"{name}.before.checkpoint"

    def _check(self, path: Path, made_for: Mapping[str, str]) -> None:
        differ = [
            f"{key} was {made_for.get(key, 'nothing')}, is {self._made_for.get(key, 'nothing')}"
            for key in sorted({*made_for, *self._made_for})
            if made_for.get(key) != self._made_for.get(key)
        ]
        if differ:
            what = f"The checkpoint {path} belongs to something else: {'; '.join(differ)}."
            raise DataError("other_checkpoint", what, _ANEW)


def _check_format(path: Path, content: bytes) -> None:
    number = content.removeprefix(_NAME).split(b"\n", 1)[0]
    if content.startswith(_NAME) and number.isdigit() and len(number) < 9 and int(number) != _FORMAT:
        what = f"The checkpoint {path} is of format {int(number)}; this version of tellapart has {_FORMAT}."
        raise DataError("other_checkpoint", what, _ANEW)


def _tensors(state: State) -> dict[str, Mapping[str, Tensor]]:
    return {
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "best": state.best,
        "optimizer": state.optimizer.state_dict(),
    }


def _bytes_of(state: State) -> int:
    return sum(value.numel() * value.element_size() for held in _tensors(state).values() for value in held.values())


def _opened(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return what is told and the tensors, or None for content that is not whole."""
    head = len(_MAGIC) + _DIGEST
    payload = memoryview(content)[head:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(payload).digest() != content[len(_MAGIC) : head]:
        return None
    try:
        length = int.from_bytes(payload[:8], "little")
        told: dict[str, Any] = json.loads(json.loads(bytes(payload[8 : 8 + length]))["__metadata__"]["told"])
        return told, load(bytes(payload))
    except (SafetensorError, ValueError, KeyError):
        return None


def _put_back(state: State, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    held: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        held[part][name] = value
    state.network.load_state_dict(held["network"])
    state.average.load_state_dict(held["average"])
    state.best = held["best"]
    state.optimizer.load_state_dict(held["optimizer"])
    state.horizon = Horizon(tuple((int(step), float(progress)) for step, progress in told["horizon"]))
    kinds: dict[str, type[Epoch] | type[Decision]] = {"Epoch": Epoch, "Decision": Decision}
    state.told = tuple(kinds[kind](**fields) for kind, fields in told["events"])
    state.epochs = tuple(event for event in state.told if isinstance(event, Epoch))
    for key in (*_PLAIN, "ended"):
        setattr(state, key, told[key])
