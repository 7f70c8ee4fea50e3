"""A graph that was not made here is tried once, in a process with limits; its sizes never depend on pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import BundleError
from tellapart.images.guard import Guard
from tellapart.runtime import Bundle
from tellapart.runtime.onnx_sizes import Node, check_sizes


def test_what_held_once_is_not_tried_again(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    tries = []
    run = Guard.run

    def counted(*arguments, **options):
        tries.append(1)
        return run(*arguments, **options)

    monkeypatch.setattr(Guard, "run", counted)
    assert Bundle(tiny_bundle).classes == Bundle(tiny_bundle).classes == ("ants", "bees")
    assert len(tries) == 1


def test_without_a_cache_it_is_tried_each_time(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert Bundle(tiny_bundle).classes == Bundle(tiny_bundle).classes


FINE = [
    [Node("Shape", ["image"], ["s"]), Node("Reshape", ["image", "s"], ["y"])],
    [Node("Reshape", ["image", "constant"], ["y"])],
    [Node("Size", ["image"], ["s"]), Node("Range", ["zero", "s", "one"], ["y"])],
    [Node("Resize", ["image", "", "", "sizes"], ["y"])],
    [Node("If", ["constant"], ["y"])],
]
BAD = [
    [Node("NonZero", ["image"], ["y"])],
    [Node("If", ["image"], ["y"])],
    [Node("Cast", ["image"], ["s"]), Node("Expand", ["one", "s"], ["y"])],
    [Node("Expand", ["one", "s"], ["y"]), Node("Cast", ["t"], ["s"]), Node("Abs", ["image"], ["t"])],
    [Node("Pad", ["x", "p"], ["y"]), Node("Split", ["image"], ["q", "p"])],
    [Node("Abs", ["image"], ["a"]), Node("Identity", ["a"], ["b"]), Node("Tile", ["one", "b"], ["y"])],
]


@pytest.mark.parametrize("nodes", FINE)
def test_sizes_from_weights_and_shapes_are_fine(nodes: list[Node]) -> None:
    check_sizes(nodes, ["image"])


@pytest.mark.parametrize("nodes", BAD)
def test_sizes_from_pictures_are_refused(nodes: list[Node]) -> None:
    with pytest.raises(BundleError, match="depends on what a picture shows"):
        check_sizes(nodes, ["image"])
