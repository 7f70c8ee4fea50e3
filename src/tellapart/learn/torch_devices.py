"""Where networks run: which devices this machine has, and what differs between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from tellapart.errors import RecipeError

__all__ = ["device_of", "let_go", "seeded", "synchronize", "told_device"]


def device_of(wish: str) -> str:
    """Return the device to use: the one asked for or, for `auto`, a CUDA device where there is one, else the processor.

    Raises RecipeError (`no_device`) where torch finds none of the kind that is asked for.
    """
    there = _devices()
    if wish == "auto":
        return "cuda" if "cuda" in there else "cpu"
    if wish not in there:
        raise RecipeError(
            "no_device",
            f"--device got {wish!r}, and torch {torch.__version__} finds no such device here: there is "
            f"{', '.join(there)}.",
            f"Use --device {there[-1]}, or leave it out.",
        )
    return wish


def _devices() -> list[str]:
    """Return the kinds of devices that torch finds here."""
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [kind for kind, there in found.items() if there]


def told_device(device: str) -> str:
    """Return in words which other devices there are beside the one in use, and how to use them."""
    others = [kind for kind in _devices() if kind != torch.device(device).type]
    if not others:
        return "torch finds no other device here"
    unused = ": `auto` leaves it alone, since nothing here was measured on one" if others[-1] == "mps" else ""
    return f"torch finds {' and '.join(others)} too, for --device{unused}"


def _backend(device: str) -> Any:
    """Return the part of torch that speaks with a device's generator and memory; None for the processor."""
    kind = torch.device(device).type
    return None if kind in ("cpu", "meta") else getattr(torch, kind)


@contextlib.contextmanager
def seeded(device: str, seed: int) -> Iterator[None]:
    """Let what is drawn in here, on the processor and on `device`, be a function of `seed`; all else is as before."""
    backend = _backend(device)
    before, there = torch.default_generator.get_state(), None if backend is None else backend.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        if backend is not None:
            backend.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(before)
        if backend is not None:
            backend.set_rng_state(there)


def synchronize(device: str) -> None:
    """Wait until a device has done what it was given: for measurements."""
    backend = _backend(device)
    if backend is not None:
        backend.synchronize()


def let_go(device: str) -> None:
    """Give back the memory that torch keeps on a device for later."""
    backend = _backend(device)
    if backend is not None:
        backend.empty_cache()
