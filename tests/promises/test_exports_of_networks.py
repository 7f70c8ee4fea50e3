"""A network on real photos leaves in forms that are as good: fp32 names each alike, int8 loses half a point at most."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import tellapart
from tellapart.runtime import Bundle, Prediction
from tests.conftest import SHARED

pytestmark = pytest.mark.promise


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "tf_efficientnet_lite0"])
def test_a_network_is_exported_in_every_form(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = SHARED / "data" / "hymenoptera.tar"
    weights = SHARED / "weights"
    if not archive.is_file() or not (weights / backbone).is_dir():
        pytest.skip(f"{archive} or {weights / backbone} is not here")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    photos = tmp_path / "hymenoptera"
    run = tellapart.train(photos, out=tmp_path / "run", method="probe", backbone=backbone, budget="5m")
    assert run.result["backbone"] == backbone
    result = tellapart.export(run.bundle, tmp_path / "auto")
    forms = {form.precision: form for form in result.forms}
    assert forms["fp32"].judged.same == 1.0
    assert forms["fp32"].refused is forms["fp16"].refused is None
    assert forms["fp16"].bytes < 0.55 * forms["fp32"].bytes
    assert result.precision in ("int8", "fp16"), result.why
    if result.precision == "int8":
        assert forms["int8"].judged.change >= -0.5
        assert forms["int8"].bytes < 0.45 * forms["fp32"].bytes
    tellapart.export(run.bundle, tmp_path / "plain", precision="fp32", with_resize=True)
    assert Bundle(tmp_path / "plain").card.lineage["resizes"] is True
    test = [found for found in tellapart.predict(run.bundle, photos / "test") if isinstance(found, Prediction)]
    for place, alike in (("plain", 1.0), ("auto", 0.97)):
        other = [
            found for found in tellapart.predict(tmp_path / place, photos / "test") if isinstance(found, Prediction)
        ]
        same = sum(a.label == b.label for a, b in zip(test, other, strict=True)) / len(test)
        assert same >= alike, place
        novel = [sum(found.answer == "unknown" for found in answers) / len(answers) for answers in (test, other)]
        assert abs(novel[0] - novel[1]) < 0.05, place
