"""Maps of evidence: they add up to the logit, they find what tells the class, and names are not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tellapart.judge.maps import mass, place
from tellapart.judge.sanity import sane, trial
from tellapart.runtime import Bundle
from tellapart.runtime.onnx_bytes import first_filters, with_output
from tellapart.runtime.saliency import Saliency, hidden
from tellapart.runtime.saliency_trial import tried
from tellapart.runtime.session import Session
from tests.patches import SIDE, patch_bundle, patched, scattered, trunk


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return patch_bundle(tmp_path_factory.mktemp("patches") / "bundle")


@pytest.fixture(scope="module")
def of_length_one(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return patch_bundle(tmp_path_factory.mktemp("patches") / "bundle", "length one")


@pytest.fixture(scope="module")
def of_highest(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return patch_bundle(tmp_path_factory.mktemp("patches") / "bundle", "highest")


@pytest.mark.parametrize("name", ["bundle", "of_length_one"])
def test_shares_of_cells_add_up_to_the_logit(name: str, request: pytest.FixtureRequest) -> None:
    of: Bundle = request.getfixturevalue(name)
    saliency = Saliency(of)
    assert saliency.method == "class_activation"
    usual = of.logits_from(of.reference.embedding_mean[None])[0]
    for seed in range(3):
        looked = saliency.look(patched(seed % 2, 1 + seed, 3, seed))
        lead = (looked.logits - looked.logits.mean()) - (usual - usual.mean())
        np.testing.assert_allclose(saliency.maps(looked, [0, 1]).mean(axis=(1, 2)), lead, atol=1e-3)


def test_a_feature_map_whose_mean_is_not_the_embedding_is_not_believed(of_highest: Bundle) -> None:
    saliency = Saliency(of_highest)
    assert saliency.method == "occlusion"
    looked = saliency.look(patched(1, 4, 4, 3))
    assert looked.feature_map is not None
    # Occlusion is what hiding a part takes, and nothing else.
    masks = np.zeros((1, SIDE, SIDE), dtype=bool)
    masks[0, 4 * 8 - 4 : 5 * 8 + 4, 5 * 8 - 4 : 6 * 8 + 4] = True
    (logits,), _ = saliency.run(patched(1, 4, 4, 3), masks)
    taken = (looked.logits - looked.logits.mean()) - (logits - logits.mean())
    assert saliency.maps(looked, [1])[0][4, 5] == pytest.approx(taken[1], abs=1e-4)


@pytest.mark.parametrize("name", ["bundle", "of_length_one", "of_highest"])
def test_what_tells_the_class_is_found(name: str, request: pytest.FixtureRequest) -> None:
    saliency = Saliency(request.getfixturevalue(name))
    places = {(0, 0): "upper left", (5, 5): "lower right", (0, 5): "upper right", (5, 0): "lower left"}
    for number, (cell, words) in enumerate(places.items()):
        looked = saliency.look(patched(number % 2, *cell, 40 + number))
        spread = mass(saliency.maps(looked, [number % 2])[0])
        assert spread is not None
        assert looked.logits.argmax() == number % 2
        assert place(spread).words == words


@pytest.mark.parametrize("name", ["bundle", "of_highest"])
def test_such_maps_pass_their_trial_and_random_ones_do_not(name: str, request: pytest.FixtureRequest) -> None:
    saliency = Saliency(request.getfixturevalue(name))
    found, blind = [], []
    for number, image in enumerate(scattered(10, seed=5)[0]):
        looked = saliency.look(image)
        map_ = saliency.maps(looked, [int(looked.logits.argmax())])[0]
        found.append(trial(map_, tried(saliency, image, looked, map_, 2, number)))
        chance = np.random.default_rng(number).random(map_.shape).astype(np.float32)
        blind.append(trial(chance, tried(saliency, image, looked, chance, 2, number)))
    assert sane([one for one in found if one is not None]).passed
    assert not sane([one for one in blind if one is not None]).passed


def test_only_what_is_masked_is_hidden() -> None:
    image = patched(0, 2, 2, 0)
    masks = np.zeros((2, SIDE, SIDE), dtype=bool)
    masks[1, :20, :30] = True
    out = hidden(image, masks)
    assert (out[0] == image).all()
    assert (out[1][20:] == image[20:]).all()
    assert (out[1][:20, 30:] == image[:20, 30:]).all()
    assert not (out[1][:20, :30] == image[:20, :30]).all()


def test_the_first_filters_are_read_from_the_bytes_and_their_output_can_be_had(bundle: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    for content in (bundle.model, trunk()):
        found = first_filters(content)
        assert found is not None
        stored = {
            array.name: numpy_helper.to_array(array) for array in onnx.load_model_from_string(content).graph.initializer
        }
        assert (found[1] == stored["stem"]).all()
        session = Session(with_output(content, found[0]))
        before = Session(content)
        image = patched(0, 1, 1, 1)[None]
        assert session.run(image, [found[0]])[found[0]].shape == (1, 24, SIDE, SIDE)
        assert (session.run(image, ["embedding"])["embedding"] == before.run(image, ["embedding"])["embedding"]).all()


def test_a_graph_without_convolutions_has_no_filters(tiny_bundle: Path) -> None:
    assert first_filters(Bundle(tiny_bundle).model) is None
