"""The forms that a bundle may take: made, run on the pictures that judge, and measured on this machine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tellapart.events import Note, Steps
from tellapart.ladder.export_eight import EightBits, eight_bits
from tellapart.ladder.export_gate import Judged, judged
from tellapart.ladder.export_sample import Sample
from tellapart.learn.fold import folded
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.openvino_session import OpenVinoSession
from tellapart.runtime.session import Runs, Session
from tellapart.ship.half import halved
from tellapart.ship.observe import outputs_by, outputs_of
from tellapart.ship.openvino_ir import as_ir
from tellapart.ship.speed import Speed, measure_speed, peak_bytes

__all__ = ["AS_IT_IS", "Form", "Key", "Made", "Precision", "Runtime", "make_forms", "measured"]

Precision = Literal["fp32", "fp16", "int8"]
Runtime = Literal["onnxruntime", "openvino"]
Key = tuple[str, Runtime]
AS_IT_IS: Key = ("as it is", "onnxruntime")
_WORTH = 1.05  # times as fast: less is noise
_OUTPUTS = ("logits", "embedding")
_ALIKE = 1e-3  # of the largest logit: how far two runtimes may be apart in 32 bits


@dataclasses.dataclass(frozen=True)
class Form:
    """One form of the model, measured: `in_float` counts convolutions that an int8 graph keeps in 32 bits.

    `bytes` are those of the graph as the runtime takes it. `refused` says why it may not be used; None where it may.
    `speed` and `peak_bytes` are of this machine.
    """

    precision: str
    runtime: str
    bytes: int
    judged: Judged
    speed: Speed | None = None
    peak_bytes: int | None = None
    in_float: int = 0
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """One form: its `model` as ONNX, the `ir` (`.xml`, `.bin`) where OpenVINO runs it, and what it gives for the
    pictures that judge.
    """

    form: Form
    model: bytes
    logits: FloatArray
    embeddings: FloatArray
    ir: tuple[bytes, bytes] | None = None

    def session(self, threads: int = 1) -> Runs:
        """Return what runs it, by `threads` callers at once with one thread each."""
        if self.ir is not None:
            return OpenVinoSession(*self.ir, streams=threads)
        return Session(self.model)


def make_forms(
    bundle: Bundle, pictures: Sample, precisions: Sequence[str], runtime: Runtime, max_drop: float
) -> Steps[dict[Key, Made]]:
    """Return the bundle as it is, and each of `precisions` by onnxruntime and by `runtime`, each judged.

    A form that a model cannot have is left out, and that is said.
    """
    before = outputs_of(bundle.model, pictures.judge)

    def judge(logits: FloatArray, identical: bool = False) -> Judged:
        return judged(
            before[0], logits, pictures.targets, pictures.groups, bundle.classes, max_drop, identical=identical
        )

    found = {AS_IT_IS: _made(AS_IT_IS, bundle.model, pictures, judge)}
    plain = folded(bundle.model, bundle.preprocess.image_size)
    for precision in precisions:
        model, in_float = plain, 0
        if precision == "fp16":
            model = halved(plain)
        elif precision == "int8":
            eight = yield from eight_bits(plain, pictures, before, judge)
            if not isinstance(eight, EightBits):
                yield Note("info", f"int8: {eight}.")
                continue
            model, in_float = eight.model, len(eight.in_float)
        ours = _made((precision, "onnxruntime"), model, pictures, judge, in_float)
        found[precision, "onnxruntime"] = ours
        if runtime == "openvino":
            # From the weights in 32 bits: OpenVINO shortens them by itself.
            try:
                ir = as_ir(plain if precision == "fp16" else model, half=precision == "fp16")
            except RuntimeError as error:  # its reader knows less than onnxruntime does
                yield Note(
                    "info", f"{precision}: OpenVINO cannot read it ({str(error).strip().splitlines()[-1][:200]})."
                )
                continue
            found[precision, runtime] = _made((precision, runtime), model, pictures, judge, in_float, ir, ours)
    return found


def _made(
    key: Key,
    model: bytes,
    pictures: Sample,
    judge: Callable[[FloatArray, bool], Judged],
    in_float: int = 0,
    ir: tuple[bytes, bytes] | None = None,
    ours: Made | None = None,
) -> Made:
    precision, runtime = key
    session = Session(model) if ir is None else OpenVinoSession(*ir)
    logits, embeddings = outputs_by(session, pictures.judge)
    found: Judged = judge(logits, precision == "fp32")
    refused = found.refused
    if refused is None and precision == "fp32" and ours is not None:
        away = float(np.abs(logits - ours.logits).max())
        if away > _ALIKE * max(1.0, float(np.abs(ours.logits).max())):
            refused = f"its logits differ by {away:.2g} from those of onnxruntime"
    size = len(model) if ir is None else sum(map(len, ir))
    form = Form(precision, runtime, size, found, in_float=in_float, refused=refused)
    return Made(form, model, logits, embeddings, ir)


def measured(forms: Mapping[Key, Made], pictures: Sample, threads: int, image_size: int) -> Steps[dict[Key, Form]]:
    """Add to each form how fast it is and how much memory it takes; an int8 that is no faster than fp32 is refused."""
    runs = {
        "/".join(key): functools.partial(made.session(threads).run, outputs=_OUTPUTS) for key, made in forms.items()
    }
    speeds = yield from measure_speed(runs, pictures.judge, threads)
    found = {}
    for key, made in forms.items():
        content = (made.model,) if made.ir is None else made.ir
        found[key] = dataclasses.replace(
            made.form, speed=speeds["/".join(key)], peak_bytes=peak_bytes(content, image_size)
        )
    for runtime in dict.fromkeys(runtime for _, runtime in forms):
        plain, eight = found.get(("fp32", runtime)), found.get(("int8", runtime))
        if plain is None or eight is None or eight.refused is not None:
            continue
        slow, fast = plain.speed, eight.speed
        assert slow is not None
        assert fast is not None
        if not _faster(fast, slow):
            words = f"it is not faster than fp32 on this machine ({fast.one_ms:.1f} and {slow.one_ms:.1f} ms)"
            found["int8", runtime] = dataclasses.replace(eight, refused=words)
    return found


def _faster(first: Speed, second: Speed) -> bool:
    return second.one_ms / first.one_ms >= _WORTH and first.per_second / second.per_second >= _WORTH
