"""Teach a computer to tell pictures apart: `tellapart.train("photos/")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FROM_API = (
    "CheckResult",
    "TrainResult",
    "add_class",
    "bench",
    "check",
    "demo",
    "evaluate",
    "explain",
    "export",
    "predict",
    "suggest",
    "train",
    "tune",
)
__all__ = [
    "CheckResult",
    "TrainResult",
    "__version__",
    "add_class",
    "bench",
    "check",
    "demo",
    "evaluate",
    "explain",
    "export",
    "predict",
    "suggest",
    "train",
    "tune",
]

if TYPE_CHECKING:
    from tellapart.api import (
        CheckResult,
        TrainResult,
        add_class,
        bench,
        check,
        demo,
        evaluate,
        explain,
        export,
        predict,
        suggest,
        train,
        tune,
    )


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        from tellapart import api

        return getattr(api, name)
    raise AttributeError(f"module 'tellapart' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
