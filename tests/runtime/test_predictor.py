"""The predictor: order, streaming, bits that depend on the picture alone, a line for a broken file."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tellapart.images import prepare
from tellapart.learn.rungs import Fitted
from tellapart.runtime import Bundle, Failure, Prediction, Predictor
from tellapart.runtime.answers import softmax


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle(tiny_bundle)


@pytest.fixture(scope="module")
def files(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def _predictions(bundle: Bundle, sources: list[Path], threads: int) -> list[Prediction]:
    found = list(Predictor(bundle, threads).predict(sources))
    assert all(isinstance(item, Prediction) for item in found)
    return [item for item in found if isinstance(item, Prediction)]


def test_every_picture_is_answered_in_the_order_asked(bundle: Bundle, files: list[Path]) -> None:
    asked = files[::-1]
    found = _predictions(bundle, asked, 3)
    assert [item.path for item in found] == [str(file) for file in asked]
    assert [item.label for item in found] == [file.parent.name for file in asked]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bits_depend_on_the_picture_alone(bundle: Bundle, files: list[Path], threads: int) -> None:
    alone = [next(iter(Predictor(bundle, 1).outputs([file]))) for file in files[:6]]
    among = list(itertools.islice(Predictor(bundle, threads).outputs(files), 6))
    for one, other in zip(alone, among, strict=True):
        assert not isinstance(one, Failure)
        assert not isinstance(other, Failure)
        assert [value.tobytes() for value in one] == [value.tobytes() for value in other]


def test_logits_are_those_of_the_trained_head_on_the_prepared_picture(
    bundle: Bundle, tiny_fitted: Fitted, files: list[Path]
) -> None:
    found = next(iter(Predictor(bundle, 1).outputs(files[:1])))
    assert not isinstance(found, Failure)
    logits, embedding = found
    colour = prepare(files[0], bundle.preprocess).mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(embedding, colour, atol=1e-6)
    np.testing.assert_allclose(logits, tiny_fitted.head.tempered(1.5).logits(colour[None])[0], atol=1e-5)
    np.testing.assert_allclose(bundle.logits_from(embedding[None])[0], logits, atol=1e-5)


def test_label_prob_and_top_agree(bundle: Bundle, files: list[Path]) -> None:
    for item in _predictions(bundle, files, 2):
        assert item.probs.sum() == pytest.approx(1.0)
        assert item.top[0] == (item.label, item.prob)
        assert item.prob == item.probs.max()
        assert bundle.classes[int(item.probs.argmax())] == item.label
        assert [prob for _, prob in item.top] == sorted(item.probs.tolist(), reverse=True)
        assert 0.0 <= item.novelty <= 1.0
        if item.answer == "label":
            assert item.prob >= bundle.card.thresholds.min_prob
            assert item.novelty <= bundle.card.thresholds.max_novelty


def test_at_most_five_classes_are_listed_likeliest_first(
    write_tiny_bundle: Callable[..., Bundle], tiny_fitted: Fitted, files: list[Path], tmp_path: Path
) -> None:
    import dataclasses

    from tellapart.learn.rungs import Head

    weight = np.random.default_rng(1).normal(0, 3, (3, 9)).astype(np.float32)
    fitted = dataclasses.replace(tiny_fitted, head=Head(weight, np.zeros(9, np.float32)))
    classes = [f"class {number}" for number in range(9)]
    bundle = write_tiny_bundle(tmp_path / "bundle", fitted=fitted, classes=classes)
    item = _predictions(bundle, files[:1], 1)[0]
    order = np.argsort(-item.probs)[:5]
    assert [label for label, _ in item.top] == [classes[index] for index in order]


def test_a_line_has_the_fields_of_the_contract(bundle: Bundle, files: list[Path]) -> None:
    line = _predictions(bundle, files[:1], 1)[0].as_json()
    assert list(line) == ["path", "label", "prob", "top", "novelty", "answer"]
    assert line["answer"] in ("label", "unsure", "unknown")
    assert list(line["top"][0]) == ["label", "prob"]
    assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_a_number_that_is_not_finite_is_null_in_a_line() -> None:
    nan = float("nan")
    odd = Prediction("a.png", "x", nan, np.array([nan]), np.zeros(3, np.float32), nan, "unknown", (("x", nan),))
    assert odd.as_json()["prob"] is None
    assert odd.as_json()["top"] == [{"label": "x", "prob": None}]
    assert odd.as_json()["novelty"] is None


def test_a_broken_or_missing_file_fails_alone_and_the_run_goes_on(
    bundle: Bundle, files: list[Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(files[0].read_bytes()[:60])
    found = list(Predictor(bundle, 2).predict([files[0], broken, missing, files[1]]))
    assert [type(item) for item in found] == [Prediction, Failure, Failure, Prediction]
    assert [item.path for item in found] == [str(path) for path in (files[0], broken, missing, files[1])]
    assert isinstance(found[1], Failure)
    line = found[1].as_json()
    assert list(line) == ["path", "error"]
    assert list(line["error"]) == ["code", "message"]


def test_bytes_are_answered_like_the_file_they_came_from(bundle: Bundle, files: list[Path]) -> None:
    from_file, from_bytes, failure = Predictor(bundle, 1).predict([files[0], files[0].read_bytes(), b"nonsense"])
    assert isinstance(from_file, Prediction)
    assert isinstance(from_bytes, Prediction)
    assert isinstance(failure, Failure)
    assert from_bytes.path is None
    assert from_bytes.probs.tobytes() == from_file.probs.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_endless_source_is_taken_only_as_it_is_needed(bundle: Bundle, files: list[Path], threads: int) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield files[0]

    results = Predictor(bundle, threads).predict(endless())
    for _ in range(10):
        next(results)
    assert taken <= 10 + 16 * 2 * threads  # runs of sixteen at the most, two a thread
    results.close()  # type: ignore[attr-defined]


def test_predicting_loads_nothing_of_the_training_extra(tiny_bundle: Path, files: list[Path]) -> None:
    program = (
        "import sys\n"
        "import tellapart.runtime\n"
        "light = 'onnxruntime' not in sys.modules\n"
        "bundle = tellapart.runtime.Bundle(sys.argv[1])\n"
        "found = list(tellapart.runtime.Predictor(bundle).predict(sys.argv[2:]))\n"
        "heavy = {'torch', 'torchvision', 'timm', 'onnx', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'matplotlib'}\n"
        "print(light, found[0].label, sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, str(tiny_bundle), str(files[0])]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == f"True {files[0].parent.name} []\n"


def test_a_bundle_answers_after_it_was_moved(tiny_bundle: Path, files: list[Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "elsewhere")
    moved = _predictions(Bundle(tmp_path / "elsewhere"), files[:1], 1)[0]
    assert moved.probs.tobytes() == _predictions(Bundle(tiny_bundle), files[:1], 1)[0].probs.tobytes()


def test_probabilities_are_the_softmax_of_the_graphs_logits(bundle: Bundle, files: list[Path]) -> None:
    logits = bundle.session.run(prepare(files[0], bundle.preprocess)[None], ["logits"])["logits"][0]
    assert _predictions(bundle, files[:1], 1)[0].probs.tobytes() == softmax(logits).tobytes()
