"""bench says where the time goes and keeps a setting that predict follows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tellapart
from tellapart.driving import finish
from tellapart.errors import DataError, InputError
from tellapart.images import default_threads
from tellapart.ladder.bench import _accuracy, fastest
from tellapart.runtime import Bundle, Prediction
from tellapart.runtime.openvino_session import OpenVinoSession
from tellapart.runtime.predictor import Predictor
from tellapart.runtime.setting import CHOICES, Setting, read_setting, write_setting


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_it_measures_and_leaves_a_setting_beside_the_bundle(bundle: Path, photos: Path) -> None:
    result = tellapart.bench(bundle, photos)
    assert result.n == 48
    assert result.cores == default_threads()
    assert min(result.decode_ms, result.model_ms, result.batch_ms, result.load_ms) > 0
    assert {1, result.cores, 2 * result.cores} <= {rate.threads for rate in result.rates}
    assert all(rate.per_second > 0 and rate.share_of_limit > 0 for rate in result.rates)
    chosen = Setting(result.threads, result.cores, result.runtime, result.precision)
    assert read_setting(bundle, result.cores) == chosen
    assert [(model.runtime, model.precision) for model in result.models][:2] == list(CHOICES[:2])
    assert all(min(model.model_ms, model.batch_ms) > 0 for model in result.models)
    assert {rate.runtime for rate in result.rates} == {"onnxruntime", "openvino"}
    assert result.as_json()["place"] == str(result.place)
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "bundle.setting.json"]
    assert len(list(tellapart.predict(bundle, photos))) == 48


def test_predict_follows_the_setting_unless_told(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_setting(bundle, Setting(5, default_threads()))
    taken = []
    predict = Predictor.predict

    def noted(self, sources):
        taken.append(self.threads)
        return predict(self, sources)

    monkeypatch.setattr(Predictor, "predict", noted)
    assert len(list(tellapart.predict(bundle, photos / "ants"))) == 24
    assert len(list(tellapart.predict(bundle, photos / "ants", threads=2))) == 24
    assert taken == [5, 2]


def test_predict_runs_by_what_the_setting_says(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(tellapart.predict(bundle, photos))
    write_setting(bundle, Setting(2, default_threads(), "openvino"))
    runs = []
    run = OpenVinoSession.run

    def noted(self, image, outputs):
        runs.append(len(image))
        return run(self, image, outputs)

    monkeypatch.setattr(OpenVinoSession, "run", noted)
    after = list(tellapart.predict(bundle, photos))
    assert len(runs) == 48
    for one, other in zip(before, after, strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert (one.label, one.answer) == (other.label, other.answer)
        np.testing.assert_allclose(other.probs, one.probs, atol=1e-4)
        assert other.novelty == pytest.approx(one.novelty, abs=1e-3)
    monkeypatch.setattr("tellapart.runtime.setting.has_openvino", lambda: False)
    assert len(list(tellapart.predict(bundle, photos))) == 48
    assert len(runs) == 48


def test_a_signal_is_still_heard_after_several_sessions(tiny_bundle: Path) -> None:
    """In a process of its own: a core that ended took the stack of signals with it."""
    program = (
        "import os, signal, sys; from pathlib import Path; from tellapart.runtime import Bundle;"
        "from tellapart.runtime.setting import Setting; bundle = Bundle(Path(sys.argv[1]));"
        "some = [Setting(1, 1, 'openvino').session(bundle) for _ in range(3)];"
        "some.pop(0); some.pop(0); some.pop(0); signal.signal(signal.SIGINT, lambda *_: print('heard'));"
        "os.kill(os.getpid(), signal.SIGINT); print('alive')"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tiny_bundle)], capture_output=True, text=True, timeout=120)
    assert ran.stdout.split() == ["heard", "alive"], ran.stderr


def test_a_runtime_that_answers_otherwise_is_not_taken(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self, image, outputs):
        logits = np.tile(np.array([9.0, -9.0], np.float32), (len(image), 1))
        return {"logits": logits, "embedding": np.zeros((len(image), 3), np.float32)}

    monkeypatch.setattr(OpenVinoSession, "run", wrong)
    result = tellapart.bench(bundle, photos)
    assert result.runtime == "onnxruntime"
    assert "otherwise" in (next(model for model in result.models if model.runtime == "openvino").refused or "")


def test_other_numbers_are_taken_only_with_their_accuracy(conv_run: Path) -> None:
    bundle = Bundle(conv_run / "bundle")
    found, refused = finish(_accuracy(bundle, bundle.session))
    assert found is not None
    assert (refused, found.change) == (None, 0.0)

    class Wrong:
        def run(self, image, outputs):
            found = bundle.session.run(image, outputs)
            return {**found, "logits": -found["logits"]}

    assert "accuracy drops" in (finish(_accuracy(bundle, Wrong()))[1] or "")


def test_pictures_are_needed(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--pictures"):
        tellapart.bench(bundle)
    with pytest.raises(InputError):
        tellapart.bench(bundle, tmp_path / "absent")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="can be read"):
        tellapart.bench(bundle, tmp_path / "bad")


def test_a_folder_that_cannot_be_written_is_told(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tellapart.ladder.bench.write_setting", full)
    seen: list[object] = []
    assert tellapart.bench(bundle, photos, watch=seen.append).place is None
    assert any("cannot be written" in str(event) for event in seen)


def test_a_number_of_threads_has_to_be_faster_in_every_round() -> None:
    assert fastest({1: [2.0, 2.0], 2: [1.0, 1.0], 4: [0.9, 0.8]}, 2)[0] == 4
    assert fastest({1: [0.5, 1.1], 2: [1.0, 1.0], 4: [0.96, 0.2]}, 2)[0] == 2
    assert fastest({1: [1.0]}, 1)[0] == 1
    assert fastest({1: [1.0, 1.0]}, 2)[0] == 1
    assert "5%" in fastest({("a", 1): [1.0], ("b", 1): [0.96]}, ("a", 1))[1]
