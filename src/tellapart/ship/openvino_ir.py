"""A graph as OpenVINO keeps it: an `.xml` of the operators and a `.bin` of the weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tellapart.runtime.openvino_session import openvino_core, openvino_module, pooled_before

__all__ = ["as_ir"]


def as_ir(model: bytes, *, half: bool = False) -> tuple[bytes, bytes]:
    """Return the `.xml` and the `.bin` of an ONNX model; `half` keeps weights in 16 bits.

    OpenVINO's own reader of ONNX makes it, in this process; nothing is sent anywhere. Raises MissingExtraError.
    """
    import onnx

    openvino = openvino_module()
    read = openvino_core().read_model(model)
    pooled_before(read)
    names = [value.name for value in onnx.load_model_from_string(model).graph.output]
    for value, name in zip(read.outputs, names, strict=True):
        value.tensor.set_names({name})  # whatever else the value was called on the way
    with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
        place = Path(folder) / "model.xml"
        openvino.save_model(read, str(place), compress_to_fp16=half)
        return place.read_bytes(), place.with_suffix(".bin").read_bytes()
