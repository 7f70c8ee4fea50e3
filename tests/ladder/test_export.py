"""An export is a bundle that answers alike, judged on real pictures; a refused one leaves nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tellapart
from tellapart.driving import finish
from tellapart.errors import DataError, GateError, InputError
from tellapart.events import Decision, Event
from tellapart.images import decode, prepare
from tellapart.ladder.export_eight import EightBits, eight_bits
from tellapart.ladder.export_gate import judged
from tellapart.ladder.export_sample import Sample
from tellapart.runtime import Bundle, Prediction
from tellapart.ship.any_size import of_any_size
from tellapart.ship.derive import moved_quantiles
from tellapart.ship.observe import outputs_of

CLASSES = ("ants", "bees")


def _predictions(bundle: Path, photos: Path) -> list[Prediction]:
    return [found for found in tellapart.predict(bundle, photos) if isinstance(found, Prediction)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_export_is_a_bundle_that_answers_alike(conv_run: Path, photos: Path, tmp_path: Path, precision: str) -> None:
    result = tellapart.export(conv_run / "bundle", tmp_path / "out", precision=precision)
    assert result.precision == precision
    before = _predictions(conv_run / "bundle", photos)
    after = _predictions(tmp_path / "out", photos)
    assert len(after) == 48
    assert [a.label for a in after] == [b.label for b in before]
    np.testing.assert_allclose([a.prob for a in after], [b.prob for b in before], atol=5e-3)
    np.testing.assert_allclose([a.novelty for a in after], [b.novelty for b in before], atol=0.05)
    card = Bundle(tmp_path / "out").card
    parent = hashlib.sha256((conv_run / "bundle" / "card.json").read_bytes()).hexdigest()
    assert card.lineage["parent"] == parent
    assert card.lineage["precision"] == precision
    assert card.metrics["test"] is None
    assert card.metrics["val"] is not None
    assert tellapart.evaluate(tmp_path / "out", photos).as_json()["accuracy"] > 0.9


def test_int8_is_measured_and_kept_only_where_it_is_good_and_faster(conv_run: Path, tmp_path: Path) -> None:
    result = None
    with contextlib.suppress(GateError):  # so small a network need not be faster in 8 bits
        result = tellapart.export(conv_run / "bundle", tmp_path / "out", precision="int8")
    assert (tmp_path / "out").exists() == (result is not None)
    if result is not None:
        eight, plain = result.forms[-1], result.forms[1]
        assert eight.precision == "int8"
        assert eight.judged.change >= -0.5
        assert eight.speed is not None
        assert plain.speed is not None
        assert eight.speed.one_ms < plain.speed.one_ms
        assert Bundle(tmp_path / "out").card.lineage["precision"] == "int8"


def test_auto_measures_every_form_and_says_why(conv_run: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    result = tellapart.export(conv_run / "bundle", tmp_path / "out", watch=seen.append)
    assert [form.precision for form in result.forms] == ["as it is", "fp32", "fp16", "int8"]
    assert all(form.speed is not None and form.speed.one_ms > 0 for form in result.forms)
    assert {"precision", "export"} <= {event.name for event in seen if isinstance(event, Decision)}
    told = json.loads(json.dumps(result.as_json()))
    page = (tmp_path / "out.report.html").read_text(encoding="utf-8")
    assert told["page"] == str(tmp_path / "out.report.html")
    assert all(f"{form.bytes / 1e6:.2f} MB" in page for form in result.forms)
    assert told["forms"][0]["judged"]["same"] == 1.0
    assert told["forms"][1]["bytes"] > told["forms"][2]["bytes"]


def test_layers_that_hurt_return_to_float_until_the_judge_is_content(conv_run: Path) -> None:
    model = Bundle(conv_run / "bundle").model
    pictures = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    some = Sample(pictures, pictures, np.zeros(20, np.int64), ("",) * 20, np.ones(20, bool), ())
    before = outputs_of(model, pictures)
    tried = []

    def judge(logits: np.ndarray):
        tried.append(float(np.abs(logits - before[0]).max()))
        enough = len(tried) > 1
        wrong = np.roll(before[0], 1, axis=1)
        return judged(before[0], before[0] if enough else wrong, before[0].argmax(axis=1), ("",) * 20, CLASSES, 0.5)

    found = finish(eight_bits(model, some, before, judge))
    assert isinstance(found, EightBits)
    assert len(found.in_float) == 3  # the first two see pixels and stay as they are anyway
    assert tried[1] < tried[0]


def test_a_refused_form_leaves_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = tellapart.train(photos, out="run", method="majority", budget="60s")
    with pytest.raises(GateError, match="no convolutions") as refused:
        tellapart.export(trained.bundle, "out", precision="int8")
    assert refused.value.exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_bundle_away_from_its_run_needs_pictures(conv_run: Path, photos: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(conv_run / "bundle", tmp_path / "bundle"))
    with pytest.raises(DataError, match="--data"):
        tellapart.export(bundle, tmp_path / "out", precision="fp32")
    assert not (tmp_path / "out").exists()
    result = tellapart.export(bundle, tmp_path / "out", precision="fp32", data=photos)
    assert result.forms[0].judged.n >= 20


def test_a_manifest_of_another_run_is_not_believed(conv_run: Path, tmp_path: Path) -> None:
    shutil.copytree(conv_run / "bundle", tmp_path / "bundle")
    lines = (conv_run / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(DataError, match="another run"):
        tellapart.export(tmp_path / "bundle", tmp_path / "out", precision="fp32")


def test_nothing_is_overwritten(conv_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    for out in (
        tmp_path / "out",
        tmp_path / "out" / "mine",
        conv_run / "bundle" / "inner",
        tmp_path / "absent" / "out",
    ):
        with pytest.raises(InputError):
            tellapart.export(conv_run / "bundle", out, precision="fp32")
    assert (tmp_path / "out" / "mine").read_text() == "x"


@pytest.mark.parametrize("options", [{"precision": "int4"}, {"max_drop": -1.0}, {"max_drop": float("nan")}])
def test_options_out_of_range_are_refused(conv_run: Path, tmp_path: Path, options) -> None:
    with pytest.raises(InputError):
        tellapart.export(conv_run / "bundle", tmp_path / "out", **options)


def _logits(names: np.ndarray, num_classes: int) -> np.ndarray:
    sure: np.ndarray = 10.0 * np.eye(num_classes)[names]
    return sure.astype(np.float32)


def test_the_gate_counts_points_classes_and_names() -> None:
    targets = np.repeat(np.arange(4), 100)
    right = _logits(targets, 4)
    groups = [str(number) for number in range(400)]
    names = tuple("abcd")
    assert judged(right, right, targets, groups, names, 0.0, identical=True).refused is None
    one = targets.copy()
    one[0] = 1
    found = judged(right, _logits(one, 4), targets, groups, names, 0.5)
    assert found.refused is None
    assert found.change == pytest.approx(-0.25)
    assert found.change_low < -0.25 < found.change_high
    assert "otherwise" in (judged(right, _logits(one, 4), targets, groups, names, 0.5, identical=True).refused or "")
    three = targets.copy()
    three[[0, 150, 250]] = 3
    assert "0.75 points" in (judged(right, _logits(three, 4), targets, groups, names, 0.5).refused or "")
    # Ten of one class are lost and as many of others are won back: the same accuracy, but not for that class.
    before, after = targets.copy(), targets.copy()
    before[100:110] = 0
    after[:10] = 1
    told = judged(_logits(before, 4), _logits(after, 4), targets, groups, names, 0.5)
    assert told.change == pytest.approx(0.0)
    assert "class 'a'" in (told.refused or "")
    broken = right.copy()
    broken[3, 2] = np.nan
    assert "not finite" in (judged(right, broken, targets, groups, names, 100.0).refused or "")


def test_as_many_pictures_are_novel_after_quantiles_are_moved() -> None:
    draws = np.random.default_rng(0)
    before = np.sort(draws.gamma(2.0, 1.0, 800))
    after = 1.4 * before + 0.3 + draws.normal(0, 0.02, 800)
    quantiles = np.quantile(before, np.linspace(0, 1, 101)).astype(np.float32)
    moved = moved_quantiles(quantiles, before, after)
    assert (np.diff(moved) >= 0).all()
    for place in (10, 50, 90, 99):
        assert (after > moved[place]).mean() == pytest.approx((before > quantiles[place]).mean(), abs=0.01)
    np.testing.assert_array_equal(moved_quantiles(quantiles, before[:49], after[:49]), quantiles)


def test_a_graph_that_resizes_is_shown_to_be_ours_and_ships(conv_run: Path, photos: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    tellapart.export(conv_run / "bundle", tmp_path / "out", precision="fp32", with_resize=True, watch=seen.append)
    told = next(event for event in seen if isinstance(event, Decision) and event.name == "with_resize")
    assert "named alike" in told.evidence
    bundle = Bundle(tmp_path / "out")
    assert bundle.card.lineage["resizes"] is True
    picture = photos / "ants" / "00.png"
    whole = bundle.session.run(decode(picture)[None], ["logits"])["logits"]
    square = Bundle(conv_run / "bundle").session.run(prepare(picture, bundle.preprocess)[None], ["logits"])["logits"]
    np.testing.assert_allclose(whole, square, atol=0.05)


def test_another_resize_is_refused(conv_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(Bundle(conv_run / "bundle").preprocess, interpolation="bicubic", resize_policy="pad")
    monkeypatch.setattr("tellapart.ladder.export_resize.of_any_size", lambda model, _: of_any_size(model, other))
    with pytest.raises(GateError, match="not ours"):
        tellapart.export(conv_run / "bundle", tmp_path / "out", precision="fp32", with_resize=True)
    assert not (tmp_path / "out").exists()
