"""The setting beside a bundle is followed for that bundle on such a machine, and harms nothing otherwise."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tellapart.errors import BundleError
from tellapart.images import default_threads
from tellapart.runtime import predictor_for
from tellapart.runtime.setting import Setting, card_digest, read_setting, setting_file, write_setting


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_it_is_read_back_for_the_same_card_and_cores(bundle: Path) -> None:
    assert read_setting(bundle, 2) is None
    assert write_setting(bundle, Setting(3, 2)).parent == bundle.parent
    assert read_setting(bundle, 2) == Setting(3, 2)
    assert read_setting(bundle, 4) is None
    card = bundle / "card.json"
    card.write_bytes(card.read_bytes() + b" ")
    assert read_setting(bundle, 2) is None


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"threads": 10**9},
        {"threads": "2"},
        {"threads": True},
        {"version": 1},
        {"card": ""},
        {"runtime": "torch"},
        {"runtime": ["openvino"]},
        {"precision": "int4"},
        {"precision": "bf16"},
        {"batch": 0},
        {"batch": 10**6},
        {"batch": None},
        {"form": "absent"},
        {"form": "../bundle"},
        {"form": ".."},
        {"form": "bundle", "form_card": "0" * 64},
        {"form": 3},
    ],
)
def test_what_is_out_of_range_is_not_followed(bundle: Path, change: dict[str, object]) -> None:
    place = write_setting(bundle, Setting(3, 2))
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    assert read_setting(bundle, 2) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 60_000, b"\xff", b"null"])
def test_what_is_no_setting_is_not_followed(bundle: Path, content: bytes) -> None:
    setting_file(bundle).write_bytes(content)
    assert read_setting(bundle, 2) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_beside_the_bundle_does_not_hang(bundle: Path) -> None:
    os.mkfifo(setting_file(bundle))
    assert read_setting(bundle, 2) is None


def test_what_answers_again_and_again_follows_the_setting_and_opens_the_form_alone(bundle: Path) -> None:
    assert (predictor_for(bundle).threads, predictor_for(bundle, 3).threads) == (default_threads(), 3)
    form = Path(shutil.copytree(bundle, bundle.with_name("small")))
    write_setting(bundle, Setting(4, default_threads(), form="small", form_card=card_digest(form)))
    (bundle / "model.onnx").write_bytes(b"gone")
    found = predictor_for(bundle)
    assert (found.bundle.path, found.threads) == (form, 4)
    with pytest.raises(BundleError):
        predictor_for(bundle, 1)
