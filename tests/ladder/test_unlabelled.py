"""A run on pictures of which some have no label: they are asked for, told of, and never counted as measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tellapart
from tellapart.events import Decision, Event
from tests.conftest import write_photos_without_labels

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"


@pytest.mark.weights
def test_a_run_says_whether_unlabelled_pictures_helped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (WEIGHTS / "mobilenetv2_035").is_dir():
        pytest.skip(f"needs the backbones in {WEIGHTS}")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(WEIGHTS))
    write_photos_without_labels(tmp_path / "photos")
    seen: list[Event] = []
    run = tellapart.train(
        tmp_path / "photos",
        out=tmp_path / "run",
        method="probe",
        backbone="mobilenetv2_035",
        image_size=64,
        budget="3m",
        watch=seen.append,
    )
    decided = [event for event in seen if isinstance(event, Decision) and event.name == "unlabelled"]
    assert len(decided) == 1
    found = json.loads((tmp_path / "run" / "report.json").read_text())["findings"]
    assert found, "nearly equal pictures, at least"
    assert "unreadable" not in [finding["check"] for finding in found], "they are not broken, and are told of elsewhere"
    assert "of 4 unlabelled pictures" in decided[0].evidence
    assert run.result["classes"] == ["ants", "bees"]
    assert run.result["counts"]["excluded"] == 4
    assert sum(run.result["counts"][split] for split in ("train", "val", "test")) == 44
