"""What every test may rely on."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# How long an example takes says more of the machine than of the code.
settings.register_profile("tellapart", deadline=None)
settings.load_profile("tellapart")

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tellapart.learn.rungs import Fitted
    from tellapart.runtime import Bundle

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _caches_of_tests_are_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no test read or fill the caches of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `photos` with two classes that are easily told apart, 24 pictures of each. Not to be changed."""
    folder = tmp_path_factory.mktemp("two_classes") / "photos"
    write_photos(folder)
    return folder


def write_photos(folder: Path, each: int = 24) -> None:
    """Write `folder/ants` (dark, reddish) and `folder/bees` (bright, bluish), PNG files of 32x32 px."""
    for label, tint in (("ants", (120, 60, 40)), ("bees", (120, 160, 220))):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            noise = np.random.default_rng([len(label), tint[0], number, tint[2]]).integers(-40, 40, (32, 32, 3))
            pixels = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")


def write_photos_without_labels(folder: Path, each: int = 24, without: int = 4) -> None:
    """Write `photos` of which some ants lie in `folder/unlabelled`."""
    write_photos(folder, each)
    (folder / "unlabelled").mkdir()
    for number in range(without):
        (folder / "ants" / f"{number:02d}.png").rename(folder / "unlabelled" / f"{number:02d}.png")


@pytest.fixture(scope="session")
def tiny_fitted() -> Fitted:
    """A rung that tells `photos` apart by mean colour: 16x16 px, 3 numbers an embedding, a feature map; no torch."""
    import onnx
    from onnx import TensorProto, helper

    from tellapart.images import Preprocess
    from tellapart.learn.rungs import Fitted, Head, OutOfFold

    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "full"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["feature_map"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["feature_map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 16, 16, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["n", 3, 16, 16]),
        ],
        [helper.make_tensor("full", TensorProto.FLOAT, [], [255.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.metadata_props.add(key="made_in", value="/home/someone/secret")
    colours = np.random.default_rng(5).uniform(0.1, 0.9, (24, 3)).astype(np.float32)
    head = Head(np.array([[2, -2], [-6, 6], [-6, 6]], np.float32), np.array([3, -3], np.float32))
    onnx.checker.check_model(model)
    return Fitted(
        method="probe",
        trunk=model.SerializeToString(),
        head=head,
        preprocess=Preprocess(image_size=16, interpolation="bilinear"),
        out_of_fold=OutOfFold(np.arange(24), head.logits(colours)),
        embeddings={"train": colours, "val": colours[:4]},
        held_out=np.arange(24),
    )


@pytest.fixture(scope="session")
def write_tiny_bundle(tiny_fitted: Fitted) -> Callable[..., Bundle]:
    """`write_tiny_bundle(path, **changes)` writes a bundle of `tiny_fitted`, with other arguments where named."""
    from tellapart.ship import synthetic_pictures, write_bundle

    def write(path: Path, **changes: Any) -> Bundle:
        train = tiny_fitted.embeddings["train"]
        targets = tiny_fitted.head.logits(train).argmax(axis=1)
        directions = train - train.mean(axis=0)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        given: dict[str, Any] = {
            "fitted": tiny_fitted,
            "classes": ["ants", "bees"],
            "temperature": 1.5,
            "thresholds": {"min_prob": 0.6, "max_novelty": 0.99, "target_precision": 0.95},
            "novelty": {
                "reference": directions.astype(np.float16),
                "mean": train.mean(axis=0),
                "quantiles": np.linspace(0.0, 1.0, 11, dtype=np.float32),
            },
            "reference_labels": targets,
            "targets": targets,
            "brightness": (120.0, 30.0),
            "selftest": synthetic_pictures(16),
            "thumbnails": [b"a picture of %d" % number for number in range(len(train))],
            "metrics": {"val": {"n": 4, "accuracy": 1.0}, "test": None},
            "recipe": {"seed": 0},
            "fingerprint": "ab" * 32,
            "lineage": {"created": "2026-01-01T00:00:00+00:00"},
            **changes,
        }
        return write_bundle(path, given.pop("fitted"), **given)

    return write


@pytest.fixture(scope="session")
def tiny_bundle(write_tiny_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that answers `photos`. Not to be changed: copy it first."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle").path


@pytest.fixture(scope="session")
def hymenoptera() -> list[bytes]:
    """Give the files of 398 photos of ants and bees."""
    return _members("hymenoptera.tar", every=1)


@pytest.fixture(scope="session")
def clothing() -> list[bytes]:
    """Give the files of every twentieth of 3,781 photos of clothes."""
    return _members("clothing_small_320.tar", every=20)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window, from the system."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium on the path")
    quiet = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync "
        "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
    )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=quiet.split())
        yield opened
        opened.close()


def _members(archive: str, every: int) -> list[bytes]:
    path = SHARED / "data" / archive
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with tarfile.open(path) as tar:
        files = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)[::every]
        return [opened.read() for member in files if (opened := tar.extractfile(member)) is not None]
