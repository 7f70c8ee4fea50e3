"""`tellapart export`, as from a shell."""

from __future__ import annotations

from pathlib import Path


def test_export_prints_a_table_or_one_object(tellapart, photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tellapart("train", photos, "--out", "run", "--method", "majority", "--budget", "60s", "--json").json[
        "bundle"
    ]
    ran = tellapart("export", bundle, "--out", "one", "--precision", "fp32")
    assert ran.code == 0
    assert "fp32 *" in ran.out
    assert "fp32 in one" in ran.out
    told = tellapart("export", bundle, "--out", "two", "--precision", "fp16", "--json")
    assert told.code == 0
    assert list(told.json) == ["version", "out", "page", "to", "precision", "why", "threads", "forms"]
    assert tellapart("predict", "two", photos / "ants").code == 0
    refused = tellapart("export", bundle, "--out", "three", "--precision", "int8", "--json")
    assert refused.code == 3
    assert refused.json["error"]["code"] == "export_gate"
    assert not Path("three").exists()
    assert tellapart("export", bundle, "--out", "two", "--json").code == 2
