"""bench says where the time goes and keeps a setting that predict follows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tellapart
from tellapart.driving import finish
from tellapart.errors import BundleError, DataError, GateError, InputError
from tellapart.events import Progress
from tellapart.images import default_threads
from tellapart.ladder.bench import _contenders, fastest
from tellapart.ladder.bench_forms import Accuracy
from tellapart.runtime import Bundle, Prediction
from tellapart.runtime.openvino_session import OpenVinoSession
from tellapart.runtime.predictor import Predictor
from tellapart.runtime.session import Session
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
    chosen = Setting(result.threads, result.cores, result.runtime, result.precision, result.batch)
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
    found, refused = finish(Accuracy(bundle).of(bundle.session))
    assert found is not None
    assert (refused, found.change) == (None, 0.0)

    class Wrong:
        def run(self, image, outputs):
            found = bundle.session.run(image, outputs)
            return {**found, "logits": -found["logits"]}

    assert "accuracy drops" in (finish(Accuracy(bundle).of(Wrong()))[1] or "")


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each run of a graph that is not in 8 bits take `seconds` longer."""
    run, begin = Session.run, Session.__init__

    def begun(self, model, threads=1):
        begin(self, model, threads)
        self.slow = b"QuantizeLinear" not in model

    def late(self, image, outputs=None):
        if self.slow:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass
        return run(self, image, outputs)

    monkeypatch.setattr(Session, "__init__", begun)
    monkeypatch.setattr(Session, "run", late)


@pytest.fixture
def run_of_its_own(conv_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tellapart.ladder.bench.has_openvino", lambda: False)
    monkeypatch.setattr("tellapart.ladder.bench._ROUNDS", 2)
    return Path(shutil.copytree(conv_run, tmp_path / "run"))


@pytest.mark.promise
def test_a_form_in_8_bits_is_made_judged_and_followed_where_it_is_fastest(
    run_of_its_own: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = run_of_its_own / "bundle"
    before = list(tellapart.predict(bundle, photos))
    slowed(monkeypatch, 0.004)
    result = tellapart.bench(bundle)
    assert result.form == "bundle.int8"
    [model] = [model for model in result.models if model.form]
    assert model.judged is not None
    assert model.judged.change >= -0.5
    assert (model.refused, result.rates[-1].form) == (None, "bundle.int8")
    form = Bundle(run_of_its_own / "bundle.int8")
    assert form.card.lineage["precision"] == "int8"
    used = []
    answered = Predictor.answered

    def noted(self, *given):
        used.append(self.bundle.path.name)
        return answered(self, *given)

    monkeypatch.setattr(Predictor, "answered", noted)
    after = list(tellapart.predict(bundle, photos))
    assert set(used) == {"bundle.int8"}
    pairs = list(zip(before, after, strict=True))
    assert sum(isinstance(b, Prediction) and isinstance(a, Prediction) and b.label == a.label for b, a in pairs) >= 47
    # A form that was changed is told, one that is gone is forgotten.
    content = bytearray((form.path / "model.onnx").read_bytes())
    content[-1] ^= 1
    (form.path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.int8"):
        tellapart.predict(bundle, photos)
    shutil.rmtree(form.path)
    used.clear()
    assert len(list(tellapart.predict(bundle, photos))) == 48
    assert set(used) == {"bundle"}


def test_a_form_that_is_not_taken_is_not_left(run_of_its_own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.name for path in run_of_its_own.iterdir())
    monkeypatch.setattr("tellapart.ladder.bench.fastest", lambda seconds, usual, plainness: (usual, "for once"))
    result = tellapart.bench(run_of_its_own / "bundle")
    assert (result.form, result.batch) == ("", 1)
    assert sorted(path.name for path in run_of_its_own.iterdir()) == sorted([*before, "bundle.setting.json"])


def test_exports_beside_the_bundle_are_choices_and_stay(
    run_of_its_own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = run_of_its_own / "bundle"
    tellapart.export(bundle, run_of_its_own / "small", precision="fp16")
    shutil.copytree(run_of_its_own / "small", run_of_its_own / "other")
    card = run_of_its_own / "other" / "card.json"
    card.write_bytes(card.read_bytes().replace(b'"parent"', b'"father"'))
    monkeypatch.setattr("tellapart.ladder.bench_forms.export", refuse)
    result = tellapart.bench(bundle)
    assert {model.form for model in result.models} == {"", "small"}
    assert (run_of_its_own / "small" / "card.json").is_file()


def refuse(*_: object, **__: object) -> None:
    raise GateError("export_gate", "int8 is refused: for once.", "Nothing was written.")


def test_batches_are_taken_where_they_are_faster_and_give_the_same_bits(
    bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.ladder.bench.has_openvino", lambda: False)
    monkeypatch.setattr("tellapart.ladder.bench._ROUNDS", 2)
    slowed(monkeypatch, 0.004)
    result = tellapart.bench(bundle, photos)
    assert result.batch == 8
    assert read_setting(bundle, result.cores) == Setting(result.threads, result.cores, batch=8)
    sizes = []
    run = Session.run

    def noted(self, image, outputs=None):
        sizes.append(len(image))
        return run(self, image, outputs)

    monkeypatch.setattr(Session, "run", noted)
    told = list(tellapart.predict(bundle, [*sorted((photos / "ants").iterdir()), "absent.jpg"]))
    assert max(sizes) > 1
    assert [isinstance(one, Prediction) for one in told] == [True] * 24 + [False]
    alone = list(tellapart.predict(bundle, photos / "ants", threads=1))
    for one, other in zip(alone, told[:24], strict=True):
        assert isinstance(one, Prediction)
        assert isinstance(other, Prediction)
        assert (one.path, one.probs.tolist(), one.novelty) == (other.path, other.probs.tolist(), other.novelty)


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
    assert fastest({1: [0.1], 2: [1.0, 1.0]}, 2)[0] == 2  # the other round was not measured any more
    assert fastest({1: [1.0, 1.0]}, 2)[0] == 1
    assert "5%" in fastest({("a", 1): [1.0], ("b", 1): [0.96]}, ("a", 1))[1]


def test_of_settings_that_are_alike_the_plainest_is_taken() -> None:
    seconds = {"usual": [2.0, 2.0, 2.0], "odd": [0.98, 1.0, 1.0], "plain": [1.02, 1.02, 1.2], "slow": [1.1, 1.1, 1.1]}
    order = ["usual", "plain", "odd", "slow"]
    assert fastest(seconds, "usual", order.index)[0] == "plain"
    assert fastest(seconds, "usual")[0] == "odd"
    seconds["lucky once"] = [0.5, 1.3, 1.3]
    assert fastest(seconds, "usual", [*order, "lucky once"].index)[0] == "plain"


def test_where_the_usual_setting_answers_otherwise_the_long_rounds_decide() -> None:
    seconds = {"first in short rounds": [3.0, 3.0, 0.5], "odd": [0.98, 1.0, 1.0], "plain": [1.02, 1.02, 1.2]}
    assert fastest(seconds, "usual")[0] == "odd"
    assert fastest(seconds, "usual", ["plain", "odd", "first in short rounds"].index)[0] == "plain"


def test_a_picture_that_goes_meanwhile_is_told(bundle: Path, photos: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(photos, tmp_path / "mine"))
    rounds = 0

    def watch(event: object) -> None:
        nonlocal rounds
        rounds += isinstance(event, Progress) and event.stage == "measure"
        if rounds == 6:  # five of the parts, one of the whole path
            shutil.rmtree(mine)

    with pytest.raises(DataError, match="changed while they were measured"):
        tellapart.bench(bundle, mine, watch=watch)
    assert read_setting(bundle, default_threads()) is None


def test_what_was_fast_in_short_rounds_meets_in_long_ones() -> None:
    own, eight = ("", "onnxruntime", "fp32"), ("small", "onnxruntime", "fp32")
    seconds = {(eight, batch, threads): [0.1 + 0.001 * threads] for batch in (1, 8) for threads in (1, 2, 3, 4)}
    seconds |= {(own, 1, 2): [0.3], (own, 8, 2): [0.12], (own, 8, 4): [0.2]}
    found = _contenders(seconds, (own, 1, 2))
    assert found == [(eight, 1, 1), (eight, 8, 1), (eight, 1, 2), (own, 8, 2), (own, 1, 2)]
