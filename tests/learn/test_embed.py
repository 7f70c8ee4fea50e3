from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.errors import DataError, TellapartError
from tellapart.events import Progress
from tellapart.images import Preprocess, prepare
from tellapart.learn.embed import embed, measure_rate, missing
from tellapart.learn.majority import colour_trunk
from tellapart.learn.rungs import Pictures
from tellapart.runtime.session import Session

Run = Callable[..., Any]
PREPROCESS = Preprocess(image_size=32, interpolation="bilinear")


@pytest.fixture(scope="module")
def trunk() -> bytes:
    return colour_trunk()


@pytest.fixture
def mixed(tmp_path: Path) -> Pictures:
    """Twelve pictures of odd sizes, unlike their mirror images; the last two are the first two again."""
    rng = np.random.default_rng(0)
    files = []
    for index in range(10):
        pixels = rng.integers(0, 256, (20 + index, 33, 3), dtype=np.uint8)
        pixels[:, :16] //= 4
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(files[-1])
    for index in range(2):
        files.append(tmp_path / f"again{index}.png")
        files[-1].write_bytes(files[index].read_bytes())
    digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return Pictures(tuple(files), digests, digests, np.arange(12) % 2)


def test_an_embedding_is_what_the_graph_says_of_the_prepared_picture(
    run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path
) -> None:
    found = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache"))
    session = Session(trunk)
    expected = [session.run(prepare(file, PREPROCESS)[None])["embedding"][0] for file in mixed.files]
    assert found.dtype == np.float32
    assert found.tobytes() == np.stack(expected).tobytes()


def test_what_is_cached_opens_no_picture(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    first = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache"))
    for file in mixed.files:
        file.unlink()
    order = np.arange(12)[::-1]
    again = mixed.take(order)
    second = run(embed(trunk, PREPROCESS, again.files, again.digests, tmp_path / "cache"))
    assert second.tobytes() == first[order].tobytes()


@pytest.mark.parametrize("change", ["graph", "size", "flip"])
def test_whatever_shapes_the_value_has_a_place_of_its_own(
    run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path, change: str
) -> None:
    run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path))
    other = Preprocess(image_size=32, interpolation="bicubic") if change == "size" else PREPROCESS
    graph = trunk + b"\x00" if change == "graph" else trunk
    assert missing(trunk, PREPROCESS, mixed.digests, tmp_path) == []
    assert missing(graph, other, mixed.digests, tmp_path, flip=change == "flip") == list(range(10))


def test_equal_pictures_are_embedded_once(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    assert missing(trunk, PREPROCESS, mixed.digests, tmp_path) == list(range(10))
    mixed.files[10].unlink()
    found = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path))
    assert found[10].tobytes() == found[0].tobytes()


def test_threads_and_a_cache_change_no_bit(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    one = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, None, threads=1))
    four = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path, threads=4))
    assert one.tobytes() == four.tobytes()


def test_flip_looks_at_the_mirrored_picture(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    found = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path, flip=True))
    mirrored = prepare(mixed.files[3], PREPROCESS)[:, ::-1]
    expected = Session(trunk).run(np.ascontiguousarray(mirrored)[None])["embedding"][0]
    assert found[3].tobytes() == expected.tobytes()
    plain = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path))
    assert np.abs(plain - found).max() > 0.1


def test_memory_that_is_given_is_filled(run: Run, trunk: bytes, mixed: Pictures) -> None:
    whole = np.zeros((24, 48), dtype=np.float32)
    found = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, None, into=whole[12:]))
    assert found.base is whole
    assert not whole[:12].any()
    assert whole[12:].any(axis=1).all()


def test_a_file_that_changed_since_the_scan_is_not_embedded(
    run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path
) -> None:
    mixed.files[4].write_bytes(mixed.files[5].read_bytes())
    with pytest.raises(DataError, match=r"1 file changed .*4\.png\.") as caught:
        run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache"))
    assert caught.value.code == "changed_file"


def test_every_file_that_changed_or_went_is_named(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    mixed.files[4].write_bytes(mixed.files[5].read_bytes())
    mixed.files[7].unlink()
    with pytest.raises(DataError, match=r"2 files changed .*4\.png.*7\.png"):
        run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache"))


def test_a_picture_that_cannot_be_decoded_is_named_with_its_code(run: Run, trunk: bytes, tmp_path: Path) -> None:
    file = tmp_path / "odd.jpg"
    file.write_bytes(b"<html>not a picture</html>")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"odd\.jpg") as caught:
        run(embed(trunk, PREPROCESS, [file], [digest], None))
    assert caught.value.code == "not_an_image"


def test_an_interrupted_run_keeps_what_it_computed(
    run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.learn.embed._SHOW_SECONDS", -1.0)
    steps = embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache", threads=2)
    done = [next(steps) for _ in range(5)]
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    last = done[-1]
    assert isinstance(last, Progress)
    assert (last.done, last.total) == (6, 12)
    assert len(missing(trunk, PREPROCESS, mixed.digests, tmp_path / "cache")) == 6
    whole = run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, tmp_path / "cache"))
    assert whole.tobytes() == run(embed(trunk, PREPROCESS, mixed.files, mixed.digests, None)).tobytes()


def test_no_pictures_give_no_embeddings(run: Run, trunk: bytes, tmp_path: Path) -> None:
    assert run(embed(trunk, PREPROCESS, [], [], tmp_path)).shape[0] == 0


def test_numbers_that_are_not_finite_are_refused(run: Run, mixed: Pictures) -> None:
    import onnx

    model = onnx.load_model_from_string(colour_trunk())
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array(0.0, dtype=np.float32), "white"))
    with pytest.raises(TellapartError, match="not finite"):
        run(embed(model.SerializeToString(), PREPROCESS, mixed.files, mixed.digests, None))


def test_the_rate_is_measured_on_the_pictures_given(run: Run, trunk: bytes, mixed: Pictures, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    seen: list[Any] = []
    seconds = run(measure_rate(trunk, PREPROCESS, [*mixed.files[:3], broken], 2), seen)
    assert 0 < seconds < 5
    assert [event.done for event in seen] == [1, 2, 3, 4]


def test_torch_gives_the_same_embeddings_in_batches(
    run: Run, exported: tuple[Any, Path], mixed: Pictures, tmp_path: Path
) -> None:
    from tellapart.learn import torch_embed

    graph, _ = exported
    preprocess = graph.preprocess("crop")
    for flip in (False, True):
        ours = run(embed(graph.model, preprocess, mixed.files, mixed.digests, tmp_path, flip=flip))
        theirs = run(
            torch_embed.embed(graph, preprocess, mixed.files, mixed.digests, tmp_path, device="cpu", flip=flip)
        )
        np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())
