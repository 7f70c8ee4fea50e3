"""Hostile bundles, made by a script: each is a good one with one thing changed and, where that helps, sealed anew.

    python -m tests.corpus.bundles GOOD_BUNDLE FOLDER

writes them all into FOLDER, each in a folder of its own beside the canary that it is after.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

ARRAYS, SELFTEST, MODEL, CARD = "reference.safetensors", "selftest.safetensors", "model.onnx", "card.json"


@dataclasses.dataclass
class Evil:
    """A copy of a good bundle, to be changed and sealed anew, and a file beside it that must stay as it is."""

    path: Path
    canary: Path

    def card(self, change: Callable[[dict[str, Any]], None] = lambda card: None, raw: bytes | None = None) -> None:
        """Change the card, refresh all digests and seal it, the way a writer would."""
        value = json.loads((self.path / "card.json").read_bytes())
        for name in value["sizes"]:
            content = (self.path / name).read_bytes()
            value["sizes"][name] = len(content)
            value["digests"][name] = hashlib.sha256(content).hexdigest()
        value["digests"]["card.json"] = "0" * 64
        change(value)
        text = raw if raw is not None else json.dumps(value, indent=1).encode()
        digest = hashlib.sha256(text).hexdigest()
        (self.path / "card.json").write_bytes(
            text.replace(b'"card.json": "' + b"0" * 64, f'"card.json": "{digest}'.encode())
        )

    def model(self, change: Callable[[onnx.ModelProto], object]) -> None:
        model = onnx.load_model_from_string((self.path / "model.onnx").read_bytes())
        change(model)
        (self.path / "model.onnx").write_bytes(model.SerializeToString())
        self.card()

    def arrays(self, name: str, **changes: np.ndarray | None) -> None:
        arrays = {**load((self.path / name).read_bytes()), **changes}
        (self.path / name).write_bytes(save({key: value for key, value in arrays.items() if value is not None}))
        self.card()


class Runs:
    """Something whose pickle calls `function` with an argument when it is loaded."""

    def __init__(self, function: Callable[[str], object], argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


Change = Callable[[Evil], Path | None]
HOSTILE: dict[str, Change] = {}
"""By name: what makes an `Evil` hostile; it returns what is to be opened where that is not the bundle's folder."""


def _hostile(change: Change) -> Change:
    HOSTILE[change.__name__.removeprefix("_")] = change
    return change


def _named(name: str, change: Callable[[Evil], object]) -> None:
    def one(evil: Evil) -> None:
        change(evil)

    HOSTILE[name] = one


# A pickle in place of each file: what loads it would make a file beside the canary.
def _pickled(name: str) -> Callable[[Evil], object]:
    def change(evil: Evil) -> None:
        content = pickle.dumps(Runs(os.mkdir, str(evil.canary.with_name("created"))))
        if name == CARD:
            (evil.path / CARD).write_bytes(content)
        else:
            (evil.path / name).write_bytes(content)
            evil.card()

    return change


for _name in (CARD, MODEL, ARRAYS, SELFTEST):
    _named(f"pickle_as_{_name.partition('.')[0]}", _pickled(_name))


@_hostile
def _npz_with_objects(evil: Evil) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, head_weight=np.array([Runs(os.mkdir, str(evil.canary.with_name("created")))], object))
    (evil.path / ARRAYS).write_bytes(buffer.getvalue())
    evil.card()


# What lies beside a bundle for others to run.
def _companion(name: str, make: Callable[[Evil, Path], object], listed: bool = True) -> Callable[[Evil], object]:
    def change(evil: Evil) -> None:
        place = evil.path / name
        make(evil, place)

        def add(card: dict[str, Any]) -> None:
            content = place.read_bytes() if place.is_file() else b""
            card["sizes"][name], card["digests"][name] = len(content), hashlib.sha256(content).hexdigest()

        evil.card(add if listed else lambda card: None)

    return change


def _escapes(evil: Evil, place: Path) -> None:
    place.write_bytes(b"weights")
    place.with_name("model.xml").write_text(f'<net><layer offset="0" size="24" path="{evil.canary}"/></net>')


_named("ir_unlisted", _companion("model.xml", lambda evil, place: place.write_text("<net/>"), listed=False))
_named("ir_missing", _companion("model.bin", lambda evil, place: None))
_named("ir_symlink", _companion("model.bin", lambda evil, place: place.symlink_to(evil.canary)))
_named("ir_hard_link", _companion("model.bin", lambda evil, place: os.link(evil.canary, place)))
_named("ir_with_unlisted_xml", _companion("model.bin", _escapes))
_named("page_unlisted", _companion("page.js", lambda evil, place: place.write_text("fetch('/')"), listed=False))
_named("page_symlink", _companion("index.html", lambda evil, place: place.symlink_to(evil.canary)))


@_hostile
def _companion_by_parent(evil: Evil) -> None:
    """The card lists a file beside the folder."""

    def add(card: dict[str, Any]) -> None:
        name = f"../{evil.canary.name}"
        card["sizes"][name], card["digests"][name] = 24, hashlib.sha256(bytes(24)).hexdigest()

    evil.card(add)


@_hostile
def _companion_changed(evil: Evil) -> None:
    _companion("page.js", lambda evil, place: place.write_text("one()"))(evil)
    (evil.path / "page.js").write_text("two()")


# Weights that lie in another file.
def _external(place: Callable[[Evil], str]) -> Callable[[Evil], object]:
    def change(evil: Evil) -> None:
        def point_outside(model: onnx.ModelProto) -> None:
            weight = next(array for array in model.graph.initializer if array.name == "head_weight")
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=place(evil))

        evil.model(point_outside)

    return change


_named("external_parent", _external(lambda evil: f"../{evil.canary.name}"))
_named("external_absolute", _external(lambda evil: str(evil.canary)))
_named("external_own_file", _external(lambda evil: ARRAYS))


@_hostile
def _external_symlink(evil: Evil) -> None:
    (evil.path / "weights.bin").symlink_to(evil.canary)
    _external(lambda evil: "weights.bin")(evil)


@_hostile
def _external_hard_link(evil: Evil) -> None:
    os.link(evil.canary, evil.path / "weights.bin")
    _external(lambda evil: "weights.bin")(evil)


@_hostile
def _external_in_an_attribute(evil: Evil) -> None:
    outside = TensorProto(data_type=1, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value=f"../{evil.canary.name}")
    evil.model(lambda model: model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside)))


# Links, pipes and folders in place of files.
def _replaced(name: str, by: Callable[[Path, Evil], object]) -> Callable[[Evil], object]:
    def change(evil: Evil) -> None:
        (evil.path / name).unlink()
        by(evil.path / name, evil)

    return change


for _name in (CARD, MODEL):
    _named(f"symlink_as_{_name.partition('.')[0]}", _replaced(_name, lambda file, evil: file.symlink_to(evil.canary)))
    _named(f"hard_link_as_{_name.partition('.')[0]}", _replaced(_name, lambda file, evil: os.link(evil.canary, file)))
_named("endless_device", _replaced(ARRAYS, lambda file, evil: file.symlink_to("/dev/zero")))
_named("folder_as_selftest", _replaced(SELFTEST, lambda file, evil: file.mkdir()))
if hasattr(os, "mkfifo"):
    _named("pipe_as_model", _replaced(MODEL, lambda file, evil: os.mkfifo(file)))


# Archives.
@_hostile
def _zip_slip(evil: Evil) -> Path:
    slip = evil.path.with_name("slip.zip")
    with zipfile.ZipFile(slip, "w") as file:
        for name in (CARD, MODEL, ARRAYS, SELFTEST):
            file.write(evil.path / name, name)
        file.writestr("../created", b"1")
    return slip


@_hostile
def _tar_slip(evil: Evil) -> Path:
    slip = evil.path.with_name("slip.tar")
    with tarfile.open(slip, "w") as file:
        file.add(evil.path, "bundle")
        file.addfile(tarfile.TarInfo("bundle/../../created"))
    return slip


@_hostile
def _zip_bomb_as_model(evil: Evil) -> None:
    with zipfile.ZipFile(evil.path / MODEL, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model", bytes(50_000_000))
    evil.card()


# Bombs: little to store, much to hold or to wait for.
@_hostile
def _card_of_16_gib(evil: Evil) -> None:
    with (evil.path / CARD).open("ab") as file:
        file.truncate(2**34)


@_hostile
def _card_nested_deeply(evil: Evil) -> None:
    evil.card(raw=b"[" * 200_000)


@_hostile
def _array_header_of_60_mb(evil: Evil) -> None:
    names = ",".join(f'"{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(1_000_000))
    header = f"{{{names}}}".encode()
    (evil.path / ARRAYS).write_bytes(len(header).to_bytes(8, "little") + header)
    evil.card()


@_hostile
def _array_of_4_tib(evil: Evil) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}'
    (evil.path / ARRAYS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    evil.card()


@_hostile
def _million_nodes(evil: Evil) -> None:
    def many(content: bytes, length: int) -> bytes:
        return content[:1] + bytes([length >> shift & 127 | (128 if shift < 28 else 0) for shift in range(0, 35, 7)])

    graph = b"\x0a\x00" * 3_000_000
    (evil.path / MODEL).write_bytes(many(b"\x3a", len(graph)) + graph)
    evil.card()


def _computed(
    *nodes: onnx.NodeProto, weights: dict[str, np.ndarray] | None = None, part: str = "part"
) -> Callable[[Evil], object]:
    """Add `nodes`, and the largest number of what they call `part` to the logits, so that nothing can be left out."""

    def change(evil: Evil) -> None:
        def add(model: onnx.ModelProto) -> None:
            graph = model.graph
            for node in graph.node:
                node.output[:] = ["plain_logits" if name == "logits" else name for name in node.output]
            for name, array in (weights or {}).items():
                graph.initializer.append(numpy_helper.from_array(array, name))
            graph.node.extend(nodes)
            graph.node.append(helper.make_node("ReduceMax", [part], ["largest"], keepdims=0))
            graph.node.append(helper.make_node("Mul", ["largest", "nothing"], ["none_of_it"]))
            graph.node.append(helper.make_node("Add", ["plain_logits", "none_of_it"], ["logits"]))
            graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))

        evil.model(add)

    return change


_HUGE = np.array([100_000, 100_000], np.int64)
_named("constant_of_40_gb", _computed(helper.make_node("ConstantOfShape", ["size"], ["part"]), weights={"size": _HUGE}))
_named(
    "tiles_of_4_gb",
    _computed(
        helper.make_node("Tile", ["one", "size"], ["part"]),
        weights={"one": np.ones((1, 1), np.float32), "size": _HUGE // 3},
    ),
)
_named(
    "outer_sum_of_40_gb",
    _computed(
        helper.make_node("Add", ["down", "across"], ["part"]),
        weights={"down": np.zeros((100_000, 1), np.float32), "across": np.zeros((1, 100_000), np.float32)},
    ),
)
_named(
    "doubled_forty_times",
    _computed(
        *(helper.make_node("Concat", [f"d{n}", f"d{n}"], [f"d{n + 1}"], axis=0) for n in range(40)),
        weights={"d0": np.zeros(3, np.float32)},
        part="d40",
    ),
)
_named(
    "multiplied_for_hours",
    _computed(
        helper.make_node("ConstantOfShape", ["size"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(5000)),
        weights={"size": np.array([3000, 3000], np.int64)},
        part="m5000",
    ),
)
_named(
    "picture_says_how_much",
    _computed(
        helper.make_node("ReduceMax", ["feature_map"], ["level"], keepdims=0),
        helper.make_node("Mul", ["level", "million"], ["much"]),
        helper.make_node("Cast", ["much"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "row"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["part"]),
        weights={"million": np.array(1e6, np.float32), "row": np.array([1], np.int64)},
    ),
)


@_hostile
def _loop_without_end(evil: Evil) -> None:
    body = helper.make_graph([], "b", [], [])
    evil.model(lambda model: model.graph.node.append(helper.make_node("Loop", ["", "true"], ["c"], body=body)))


# Foreign code.
@_hostile
def _operators_of_its_own(evil: Evil) -> None:
    node = helper.make_node("EPContext", [], ["c"], domain="com.microsoft")
    evil.model(lambda model: model.graph.node.append(node))


@_hostile
def _functions_of_its_own(evil: Evil) -> None:
    evil.model(lambda model: model.functions.add(name="f", domain="x"))


# Sizes, versions, files, numbers.
@_hostile
def _model_cut_short(evil: Evil) -> None:
    content = (evil.path / MODEL).read_bytes()
    (evil.path / MODEL).write_bytes(content[: len(content) // 2])
    evil.card()


@_hostile
def _model_longer_than_the_card_says(evil: Evil) -> None:
    with (evil.path / MODEL).open("ab") as file:
        file.truncate(2**34)


_named("size_below_zero", lambda evil: evil.card(lambda card: card["sizes"].update({MODEL: -1})))
_named("other_digest", lambda evil: evil.card(lambda card: card["digests"].update({MODEL: "0" * 64})))
_named("one_class_more", lambda evil: evil.card(lambda card: card["classes"].append("wasps")))
_named("newer_format", lambda evil: evil.card(lambda card: card.update(version=2)))
_named("newer_operators", lambda evil: evil.model(lambda model: model.opset_import.add(domain="", version=9999)))
_named("newer_graph", lambda evil: evil.model(lambda model: setattr(model, "ir_version", 9999)))
_named("unlisted_file", lambda evil: (evil.path / "sitecustomize.py").write_text("raise SystemExit(7)"))
_named("unlisted_hidden_folder", lambda evil: (evil.path / ".git").mkdir())
_named("threshold_nan", lambda evil: evil.card(lambda card: card["thresholds"].update(min_prob=float("nan"))))
_named("threshold_infinite", lambda evil: evil.card(lambda card: card["thresholds"].update(max_novelty=float("inf"))))
_named("threshold_as_text", lambda evil: evil.card(lambda card: card["thresholds"].update(min_prob="nan")))
_named("weights_nan", lambda evil: evil.arrays(ARRAYS, head_bias=np.array([np.nan, 0], np.float32)))
_named("novelty_nan", lambda evil: evil.arrays(ARRAYS, novelty_quantiles=np.full(11, np.nan, np.float32)))
_named("selftest_of_another_size", lambda evil: evil.arrays(SELFTEST, images=np.zeros((8, 17, 17, 3), np.uint8)))
_named("answers_of_another_model", lambda evil: evil.arrays(SELFTEST, logits=np.zeros((8, 2), np.float32)))


def write(name: str, good: Path, folder: Path) -> tuple[Path, Path]:
    """Write the hostile bundle of that name below `folder`, which is made; return what to open, and the canary."""
    folder.mkdir(parents=True)
    canary = folder / "canary.bin"
    canary.write_bytes(bytes(24))
    os.utime(canary, ns=(1, 1))
    evil = Evil(Path(shutil.copytree(good, folder / "bundle")), canary)
    return HOSTILE[name](evil) or evil.path, canary


def main() -> int:
    """Write all of them."""
    good, folder = map(Path, sys.argv[1:])
    for name in HOSTILE:
        write(name, good, folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
