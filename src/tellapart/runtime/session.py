"""onnxruntime on the processor, one thread to a run unless told otherwise, and quiet."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError

__all__ = ["Runs", "Session", "onnxruntime_module"]

_FATAL = 4
# Sums in 8 bits overflow on processors with AVX2 and without VNNI, unless weights are made unsigned (done only there):
# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
_NO_OVERFLOW = "session.x64quantprecision"
_import_lock = threading.Lock()


class Runs(Protocol):
    """What runs a graph of pictures: a `Session`, or one of another runtime."""

    def run(self, image: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs for uint8 [N, S, S, 3]."""


class Session:
    """One ONNX graph, ready to run. `outputs` and `inputs` are names, in the graph's order.

    `run` may be called from several threads at once: onnxruntime allows it, and each call then uses `threads` of its
    own. With `threads=1` the bits of a result depend on the picture alone, not on the number of processors.
    Raises BundleError (`bundle_model`) when onnxruntime cannot take the graph.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        onnxruntime = onnxruntime_module()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL
        options.add_session_config_entry(_NO_OVERFLOW, "1")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(
                "bundle_model",
                f"onnxruntime cannot load the model ({_first_line(error)}).",
                "Train or export it again.",
            ) from None
        self.inputs: tuple[str, ...] = tuple(value.name for value in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(value.name for value in self._session.get_outputs())
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL

    def run(
        self, image: NDArray[np.uint8] | NDArray[np.float32], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return `{name: float32 [N, ...]}` for uint8 [N, S, S, 3]; `outputs` names those wanted, all by default.

        A graph of a head takes embeddings float32 [N, D] instead.
        """
        names = list(self.outputs if outputs is None else outputs)
        values = self._session.run(names, {self.inputs[0]: image}, self._run_options)
        return dict(zip(names, values, strict=True))


def onnxruntime_module() -> ModuleType:
    """Import onnxruntime and return it; it writes about missing graphics cards to file descriptor 2 while it loads."""
    with _import_lock:
        if "onnxruntime" in sys.modules:
            import onnxruntime
        else:
            with _stderr_muted():
                import onnxruntime
            onnxruntime.set_default_logger_severity(_FATAL)
    module: ModuleType = onnxruntime
    return module


@contextlib.contextmanager
def _stderr_muted() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # a program without a stderr has nothing to mute
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
