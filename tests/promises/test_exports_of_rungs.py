"""Every rung's model leaves by one door: in each form, for each runtime, or it is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.errors import GateError
from tellapart.runtime import Bundle, Prediction
from tests.conftest import SHARED

pytestmark = pytest.mark.promise

NO_EIGHT_BITS = "the model has no convolutions that could be in 8 bits"


@pytest.mark.parametrize("method", ["majority", "classical", "scratch", "probe", "finetune"])
def test_a_rung_leaves_in_each_form_or_says_why(
    method: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = SHARED / "weights"
    options: dict[str, Any] = {}
    if method in ("probe", "finetune"):
        if not (weights / "mobilenetv2_035").is_dir():
            pytest.skip(f"{weights} holds no mobilenetv2_035")
        monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
        options["backbone"] = "mobilenetv2_035"
    run = tellapart.train(photos, out=tmp_path / "run", method=method, budget="90s", **options)
    assert Bundle(run.bundle).card.method == method
    before = [found for found in tellapart.predict(run.bundle, photos) if isinstance(found, Prediction)]
    refused: list[tuple[str, str, GateError]] = []
    for precision in ("fp32", "fp16", "int8"):
        for to in ("onnx", "openvino"):
            out = tmp_path / f"{precision}-{to}"
            try:
                result = tellapart.export(run.bundle, out, precision=precision, to=to)
            except GateError as error:
                refused.append((precision, to, error))
                assert not out.exists()
                continue
            after = [found for found in tellapart.predict(out, photos) if isinstance(found, Prediction)]
            same = sum(one.label == other.label for one, other in zip(before, after, strict=True)) / len(before)
            assert same == 1.0 if precision == "fp32" else same >= 0.95
            assert result.to == Bundle(out).card.lineage["to"] == to
    for precision, to, why in refused:
        assert why.exit_code == 3
        if precision == "int8":
            assert any(
                reason in why.message
                for reason in (NO_EIGHT_BITS, "not faster", "drops by", "gets worse", "OpenVINO cannot read")
            )
        else:  # OpenVINO computes the network of `scratch` otherwise than onnxruntime
            assert (method, to) == ("scratch", "openvino"), why.message
            assert "differ" in why.message
    if method in ("majority", "classical"):
        with pytest.raises(GateError, match=f"{NO_EIGHT_BITS}|not faster"):
            tellapart.export(run.bundle, tmp_path / "no", precision="int8")
