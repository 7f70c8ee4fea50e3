"""A backbone as an ONNX graph, from the cache or from a child process, and weights from the hub.

torch stays in the child: whoever waits can scan pictures meanwhile, and a run whose graph is cached never loads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tellapart import files
from tellapart.cache import digest_of
from tellapart.errors import InputError, MissingExtraError, TellapartError
from tellapart.events import Note, Progress, Steps
from tellapart.images.preprocess import DecodePolicy, Interpolation, Preprocess, ResizePolicy
from tellapart.learn.backbones import Weights, find_weights, why_no_weights

__all__ = ["Export", "Graph", "cached_graph", "fetch_weights", "start_export"]

# Part of the key of a cached graph: raise it when torch_export.py writes other graphs than it did.
_EXPORTER_VERSION = 2

# A handful of pictures needs no more, and the one that asks scans pictures on the same cores meanwhile: threads that
# have to wait for each other would make it slower.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}

_CONNECT_SECONDS = 3.0
_HUB_ANSWER_SECONDS = 6.0


@dataclasses.dataclass(frozen=True)
class Graph:
    """A frozen backbone: `model` is ONNX, uint8 [N, image_size, image_size, 3] -> embedding float32 [N, width].

    `folder` holds the weights that it was made from. `digest` is the sha256 of `model`; `mean` and `std` (0..1) are
    already inside it. `exporter` is which of torch's two exporters wrote it.
    """

    model: bytes
    name: str
    folder: Path
    image_size: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    licence: str | None
    exporter: str
    digest: str

    def preprocess(
        self, policy: ResizePolicy, decode: DecodePolicy | None = None, at_least_px: int | None = None
    ) -> Preprocess:
        """Return how pictures are made ready for this graph."""
        return Preprocess(
            image_size=self.image_size,
            at_least_px=at_least_px,
            resize_policy=policy,
            interpolation=self.interpolation,
            decode=decode or DecodePolicy(),
            mean=self.mean,
            std=self.std,
        )


def cached_graph(weights: Weights, image_size: int | None, cache: Path) -> Graph | None:
    """Return the graph from the cache, its digest checked; None when it has to be exported (again)."""
    model_path, sidecar = _paths(weights, image_size, cache)
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        model = model_path.read_bytes()
        if hashlib.sha256(model).hexdigest() != facts["digest"]:
            return None
        return Graph(
            model=model,
            name=weights.name,
            folder=weights.folder,
            image_size=int(facts["image_size"]),
            width=int(facts["width"]),
            mean=_three(facts["mean"]),
            std=_three(facts["std"]),
            interpolation=facts["interpolation"],
            licence=weights.licence,
            exporter=str(facts["exporter"]),
            digest=facts["digest"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Export:
    """An export under way, or one that was not needed. Close it (or use `with`) when it may not be waited for."""

    def __init__(self, weights: Weights, image_size: int | None, cache: Path) -> None:
        self._weights, self._image_size, self._cache = weights, image_size, cache
        self._graph = cached_graph(weights, image_size, cache)
        self._child: _Child | None = None
        if self._graph is None:
            model_path, _ = _paths(weights, image_size, cache)
            model_path.parent.mkdir(parents=True, exist_ok=True)
            self._target = model_path.with_suffix(f".{os.getpid()}.part")
            size = str(image_size or weights.image_size)
            arguments = ["export", str(weights.folder.absolute()), size, str(self._target)]
            self._child = _Child(arguments, _ONE_THREAD)

    @property
    def cached(self) -> bool:
        """Whether the graph came from the cache, without a child process."""
        return self._child is None

    @property
    def seconds(self) -> float:
        """How long a child process has been at it; 0 where none is."""
        return 0.0 if self._child is None else self._child.seconds

    def preprocess(
        self, policy: ResizePolicy, decode: DecodePolicy | None = None, at_least_px: int | None = None
    ) -> Preprocess:
        """Return how pictures will be made ready for the graph, which need not be there yet."""
        said = _sees(self._weights, self._image_size)
        return Preprocess(at_least_px=at_least_px, resize_policy=policy, decode=decode or DecodePolicy(), **said)

    def wait(self) -> Steps[Graph]:
        """Return the graph when it is there; while waiting, yield that time passes. Closed early, it ends the child.

        Raises MissingExtraError without torch, timm and onnx; RecipeError for weights or a size that cannot be used;
        TellapartError (`export_failed`) with the exporters' reasons.
        """
        if self._graph is not None:
            return self._graph
        assert self._child is not None, "wait() after close()"
        try:
            while self._child.running(0.1):
                yield Progress("export", int(self._child.seconds), None, "seconds")
            answer = self._child.answer(f"The backbone {self._weights.name} could not be exported")
            self._graph = self._keep(answer)
        finally:
            self.close()
        return self._graph

    def close(self) -> None:
        """End the child, if it still runs, and remove what it left."""
        if self._child is not None:
            self._child.close()
            self._child = None
            self._target.unlink(missing_ok=True)

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, answer: Mapping[str, Any]) -> Graph:
        model_path, sidecar = _paths(self._weights, self._image_size, self._cache)
        facts = {
            **_sees(self._weights, self._image_size),
            "digest": hashlib.sha256(self._target.read_bytes()).hexdigest(),
            "name": self._weights.name,
            "weights": self._weights.digest,
            "licence": self._weights.licence,
            "width": answer["width"],
            "exporter": answer["exporter"],
            "torch": answer["torch"],
        }
        os.replace(self._target, model_path)
        files.write_json(sidecar, facts)
        graph = cached_graph(self._weights, self._image_size, self._cache)
        if graph is None:
            raise TellapartError(
                "cache_unreadable",
                f"The graph of {self._weights.name} was written to {model_path.parent} but cannot be read back.",
                "Check the disk, or set TELLAPART_CACHE to another folder.",
            )
        return graph


def start_export(weights: Weights, image_size: int | None, cache: Path) -> Export:
    """Begin to export a backbone for pictures of `image_size` px (its own size when None), and return at once.

    Where the graph is cached, nothing is started. Raises MissingExtraError when the export needs what is not installed.
    """
    return Export(weights, image_size, cache)


def fetch_weights(name: str) -> Steps[Weights | None]:
    """Return the weights of a timm name from this disk, or else fetched from the hub; None, with a Note, without.

    A closed network costs at most about 10 seconds; `HF_HUB_OFFLINE` is heeded, and then it costs none.
    Raises as `find_weights` does.
    """
    weights = find_weights(name)
    if weights is not None:
        return weights
    problem = _no_way_to_the_hub()
    if problem is None:
        short = {"HF_HUB_ETAG_TIMEOUT": "4", "HF_HUB_DOWNLOAD_TIMEOUT": "10", "HF_HUB_DISABLE_TELEMETRY": "1"}
        try:
            problem = yield from _fetched(name, short)
        except MissingExtraError as error:
            problem = str(error)
        weights = find_weights(name)
    if weights is None:
        why = why_no_weights(name)
        yield Note("warning", f"{why[0].upper()}{why[1:]}; {problem or 'the hub gave none'}.")
    return weights


def _fetched(name: str, environment: Mapping[str, str]) -> Steps[str | None]:
    """Let a child fetch; returns the reason when it could not."""
    child = _Child(["fetch", name], environment)
    try:
        waiting_since: float | None = None
        while child.running(0.1):
            yield Progress("fetch", int(child.seconds), None, "seconds")
            said = child.said()
            if "asking" in said and "reached" not in said:
                waiting_since = waiting_since or time.monotonic()
                if time.monotonic() - waiting_since > _HUB_ANSWER_SECONDS:
                    return "the hub did not answer"
        child.answer(f"The weights of {name} could not be fetched")
    except TellapartError as error:
        return error.message
    finally:
        child.close()
    return None


class _Child:
    """`python -m tellapart.learn.backbones_child ...`; it ends when this process does, since its stdin closes."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        for package in ("torch", "timm", "onnx"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError("train", "Exporting a backbone")
        self._folder = tempfile.TemporaryDirectory(prefix="tellapart-export-")
        self._stdout, self._stderr = Path(self._folder.name, "stdout"), Path(self._folder.name, "stderr")
        self._started = time.monotonic()
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tellapart.learn.backbones_child", *arguments],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **environment},
                start_new_session=os.name == "posix",  # Ctrl-C is for this process, which then ends the child
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def running(self, wait_seconds: float) -> bool:
        """Wait a little; return whether the child still runs."""
        if self._process.poll() is None and hasattr(os, "pidfd_open"):
            # `wait` with a limit only looks now and then; the system tells at once.
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(self._process.pid)
                try:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(1000 * wait_seconds)
                finally:
                    os.close(handle)
                wait_seconds = 0.0
        try:
            self._process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def said(self) -> dict[str, Any]:
        """Return what the child has answered so far, its lines merged."""
        merged: dict[str, Any] = {}
        for line in self._stdout.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                merged.update(value if isinstance(value, dict) else {})
        return merged

    def answer(self, failed: str) -> dict[str, Any]:
        """Return the answer of a child that ended. Raises what it reports; `failed` begins the sentence without one."""
        said = self.said()
        error = said.get("error")
        if error is None and self._process.returncode == 0:
            return said
        if error is not None and said.get("kind") == "input":
            raise InputError(error["code"], error["message"], error["next"])
        if error is not None and said.get("kind") == "ours":
            raise TellapartError(error["code"], error["message"], error["next"])
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = error["message"] if error else lines[-1][:300] if lines else f"exit {self._process.returncode}"
        raise TellapartError("export_failed", f"{failed} ({reason}).", "Try again, or choose another --backbone.")

    def close(self) -> None:
        """End the child if it runs, and wait until it has gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._folder.cleanup()


def _paths(weights: Weights, image_size: int | None, cache: Path) -> tuple[Path, Path]:
    key = digest_of([weights.digest, image_size or weights.image_size, _EXPORTER_VERSION])
    folder = cache / "graphs"
    return folder / f"{key[:40]}.onnx", folder / f"{key[:40]}.json"


def _sees(weights: Weights, image_size: int | None) -> dict[str, Any]:
    """Return what a backbone is shown: the side of its square, how it is scaled, mean and deviation in 0..1."""
    config = weights.input_config
    return {
        "image_size": image_size or weights.image_size,
        "mean": _three(config.get("mean", (0.485, 0.456, 0.406))),
        "std": _three(config.get("std", (0.229, 0.224, 0.225))),
        "interpolation": "bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
    }


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def _no_way_to_the_hub() -> str | None:
    """Return why the hub cannot be asked, or None when it seems that it can; takes at most a few seconds."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable} is set, so the hub was not asked"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None  # a proxy resolves names for us: only asking through it tells
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    reached = threading.Event()

    def connect() -> None:
        port = address.port or (80 if address.scheme == "http" else 443)
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address.hostname or "", port), timeout=_CONNECT_SECONDS),
        ):
            reached.set()

    # In a thread, since looking up a name has no time limit of its own.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(_CONNECT_SECONDS)
    return None if reached.is_set() else f"{address.hostname} cannot be reached from here"
