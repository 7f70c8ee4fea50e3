"""The session: quiet, the same bits from any thread, one sentence when a model cannot be loaded."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tellapart.errors import BundleError
from tellapart.learn.rungs import Fitted
from tellapart.runtime import Session


def test_threads_share_a_session_and_get_the_same_bits(tiny_fitted: Fitted) -> None:
    session = Session(tiny_fitted.trunk)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 1, 16, 16, 3), dtype=np.uint8)
    alone = [session.run(picture)["embedding"] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: session.run(picture)["embedding"], pictures))
    assert [value.tobytes() for value in together] == [value.tobytes() for value in alone]


def test_only_the_outputs_asked_for_are_returned(tiny_fitted: Fitted) -> None:
    session = Session(tiny_fitted.trunk)
    image = np.full((2, 16, 16, 3), 255, np.uint8)
    assert session.inputs == ("image",)
    assert session.outputs == ("embedding", "feature_map")
    assert set(session.run(image)) == {"embedding", "feature_map"}
    only = session.run(image, ["embedding"])
    assert set(only) == {"embedding"}
    np.testing.assert_array_equal(only["embedding"], np.ones((2, 3), np.float32))


def test_a_model_that_cannot_be_loaded_is_one_sentence() -> None:
    with pytest.raises(BundleError) as refused:
        Session(b"not a model")
    assert refused.value.code == "bundle_model"
    assert "\n" not in str(refused.value)


def test_nothing_is_written_to_stderr(tiny_fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_fitted.trunk)
    program = (
        "import sys, numpy; from tellapart.runtime import Session;"
        "session = Session(open(sys.argv[1], 'rb').read());"
        "session.run(numpy.zeros((1, 16, 16, 3), numpy.uint8));"
        "\ntry: Session(b'x' * 100)\nexcept Exception: pass\n"
        "print('end', file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.onnx")], capture_output=True, text=True)
    assert ran.returncode == 0
    assert ran.stderr == "end\n"
