"""OpenVINO on the processor, in 32 bits, with the face of a `Session`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError, MissingExtraError

__all__ = ["OpenVinoSession", "has_bf16", "has_openvino", "openvino_core", "openvino_module", "pooled_before"]


class OpenVinoSession:
    """One graph of pictures, ready to run by OpenVINO.

    `model` are the bytes of an ONNX model that was inspected, or those of an IR's `.xml` with `weights` those of its
    `.bin`. `run` may be called from `streams` threads at once, each of which has a thread to compute on. Computed in 32
    bits also where the processor has faster arithmetic in 16, for which OpenVINO would go otherwise, unless `precision`
    is `bf16`.
    Raises MissingExtraError without OpenVINO, BundleError (`bundle_model`) for a graph that it cannot take.
    """

    def __init__(self, model: bytes, weights: bytes = b"", *, streams: int = 1, precision: str = "fp32") -> None:
        core = openvino_core()
        wish = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": streams,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            read = core.read_model(model, weights) if weights else core.read_model(model)
            pooled_before(read)
            self._compiled = core.compile_model(read, "CPU", wish)
        except Exception as error:
            words = " ".join(str(error).split())[-200:]
            raise BundleError(
                "bundle_model", f"OpenVINO cannot load the model ({words}).", "Export it again."
            ) from None
        self._places = {name: place for place, value in enumerate(self._compiled.outputs) for name in value.names}
        self._own = threading.local()

    def run(self, image: NDArray[np.uint8], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return `{name: float32 [N, ...]}` of the named outputs for uint8 [N, S, S, 3]."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer([image])
        # What a request gives is overwritten by its next run.
        return {name: np.array(request.get_output_tensor(self._places[name]).data) for name in outputs}


def pooled_before(model: Any) -> None:
    """Keep what `model`, read by OpenVINO, does behind a maximum pooling behind it.

    OpenVINO 2026.4 takes the function that follows a pooling into the convolution before it, which gives the same only
    where a function never falls; it does so with GELU, which falls below -0.75. It knows GELU by `1 + erf(x)`, and not
    by `1 - erf(-x)`, which is as much.
    """
    operators = importlib.import_module("openvino.opset13")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Erf":
            continue
        given = node.input_value(0)
        scaled = given.get_node()
        if not scaled.inputs() or scaled.input_value(0).get_node().get_type_name() != "MaxPool":
            continue
        targets = list(node.output(0).get_target_inputs())
        mirrored = operators.negative(operators.erf(operators.negative(given)))
        for target in targets:
            target.replace_source_output(mirrored.output(0))


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_bf16() -> bool:
    """Whether this processor computes faster in bfloat16, as OpenVINO sees it. Raises MissingExtraError."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def openvino_core() -> Any:
    """Return the one core of this process, which is never let go. Raises MissingExtraError.

    Each core gives its thread another stack for signals, and the one before when it ends: where several end in another
    order than they began, that is memory which is gone, and the next Ctrl-C crashes the process (2026.4).
    """
    return openvino_module().Core()


def openvino_module() -> ModuleType | Any:
    """Import OpenVINO and return it. Raises MissingExtraError."""
    try:
        return importlib.import_module("openvino")
    except ImportError:
        raise MissingExtraError("openvino", "Running a model by OpenVINO") from None
