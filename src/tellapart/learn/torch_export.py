"""From timm weights to an ONNX trunk. `backbones_child.py` runs it, so that no verb has to import torch for it."""

from __future__ import annotations

import contextlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tellapart.errors import RecipeError, TellapartError
from tellapart.learn.fold import folded

__all__ = ["Trunk", "export", "export_folder", "fetch", "import_timm", "load_trunk", "stripped", "traced"]

_TOLERANCE = 1e-4
_OPSET_TRACED = 17
_OPSET_DYNAMO = 18


def import_timm() -> Any:
    """Import timm and return it, without the compiler that torchvision drags in where that can be helped.

    `torchvision.ops.roi_align` imports `torch._dynamo.utils` for one predicate, and timm asks `torch.compiler.disable`
    to mark one class: together they load torch's whole compiler and sympy, more than half of timm's 10 seconds. While
    timm is imported a stand-in answers those two and nothing else; any other question is an ImportError or an
    AttributeError, and then timm is imported the plain way. Afterwards the real modules load when they are needed.
    """
    if "timm" in sys.modules or "torch._dynamo" in sys.modules:
        return _plain_timm()
    before = set(sys.modules)
    dynamo = types.ModuleType("torch._dynamo")
    dynamo.__path__ = []
    dynamo.disable = _leave_as_it_is  # type: ignore[attr-defined]
    predicates = types.ModuleType("torch._dynamo.utils")
    predicates.is_compile_supported = lambda _device: False  # type: ignore[attr-defined]
    stand_ins = {"torch._dynamo": dynamo, "torch._dynamo.utils": predicates}
    sys.modules.update(stand_ins)
    try:
        return _plain_timm()
    except (ImportError, AttributeError):
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("timm", "torchvision"):
                del sys.modules[name]
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        if torch.__dict__.get("_dynamo") is dynamo:
            del torch._dynamo
    return _plain_timm()


def _plain_timm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm


def _leave_as_it_is(function: Any = None, _recursive: bool = True, **_: Any) -> Any:
    return function if function is not None else _leave_as_it_is


class Trunk(nn.Module):
    """uint8 [N, S, S, 3] -> embedding float32 [N, D], and feature_map float32 [N, C, h, w] where there is one.

    Normalisation happens inside; batch norm runs on its stored statistics.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).mul(255).view(1, 3, 1, 1))
        self.width = 0
        self.has_map = False
        self.drops: dict[str, float] = {}  # what timm was asked for, of dropout and stochastic depth
        self.channels_last = False
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (embedding,) or (embedding, feature_map)."""
        pixels = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features = self.model.forward_features(pixels)  # type: ignore[operator]
        embedding = self.model.forward_head(features, pre_logits=True).flatten(1)  # type: ignore[operator]
        if not self.has_map:
            return (embedding,)
        return embedding, features.permute(0, 3, 1, 2) if self.channels_last else features


def load_trunk(folder: Path, image_size: int, **options: float) -> Trunk:
    """Return the trunk of a timm weights folder, ready to run at `image_size` px, in evaluation mode.

    `options` are those of the network, such as `drop_path_rate`. Raises RecipeError: `bad_weights` when timm cannot
    take the folder, `bad_image_size` when the network cannot take that size; TypeError for an option it does not know.
    """
    timm = import_timm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **options)
        except Exception as error:
            if options and isinstance(error, TypeError):
                raise
            raise RecipeError(
                "bad_weights",
                f"timm cannot load the backbone in {folder} ({type(error).__name__}: {_first_line(error)}).",
                "Check its config.json and model.safetensors, or choose another --backbone.",
            ) from None
        if image_size != model.pretrained_cfg["input_size"][-1]:
            # Networks of tokens are built for one size: timm then adapts their position embeddings, once and for all.
            with contextlib.suppress(TypeError):
                model = timm.create_model(
                    f"local-dir:{folder}", pretrained=True, num_classes=0, img_size=image_size, **options
                )
        try:
            return _shaped(model, image_size)
        except Exception as error:
            raise RecipeError(
                "bad_image_size",
                f"This backbone cannot take pictures of {image_size} px ({_first_line(error)}).",
                "Leave --image-size out, or give a multiple of 32.",
            ) from None


def _shaped(model: Any, image_size: int) -> Trunk:
    """Wrap the model and find out, by running it, what its feature map looks like."""
    config = model.pretrained_cfg
    trunk = Trunk(model, tuple(config["mean"]), tuple(config["std"]))
    with torch.inference_mode():
        features = model.forward_features(torch.zeros(1, 3, image_size, image_size))
        if isinstance(features, torch.Tensor) and features.ndim == 4:
            trunk.has_map = True
            said = str(getattr(model, "output_fmt", "")).upper()
            width = getattr(model, "num_features", None)
            by_shape = features.shape[-1] == width and features.shape[1] != width
            trunk.channels_last = said.endswith("NHWC") or by_shape
        (embedding, *_) = trunk(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8))
    if embedding.ndim != 2 or embedding.dtype != torch.float32:
        raise ValueError(f"the network gives {tuple(embedding.shape)} {embedding.dtype} for one picture")
    trunk.width = int(embedding.shape[1])
    return trunk


def export(trunk: Trunk, image_size: int) -> tuple[bytes, str]:
    """Return (ONNX bytes, exporter). The bytes are a function of weights and sizes alone, without machine paths.

    The tracing exporter is tried first, since it takes a tenth of the time; its graph counts when onnxruntime and torch
    agree on it at batch sizes that it was not traced with, folded if possible (`learn.fold`). Raises TellapartError
    (`export_failed`) when neither does.
    """
    reasons = []
    for exporter, write in (("torchscript", _traced), ("dynamo", _compiled)):
        try:
            plain = stripped(write(trunk, image_size))
            small = stripped(folded(plain, image_size, compared=False))
            with contextlib.suppress(Exception):  # whatever is wrong with it, there is the plain one
                if small != plain and _difference(trunk, small, image_size) <= _TOLERANCE:
                    return small, exporter
            error = _difference(trunk, plain, image_size)
            if error <= _TOLERANCE:
                return plain, exporter
            reasons.append(f"{exporter}: differs from torch by {error:.1e}")
        except Exception as error:
            reasons.append(f"{exporter}: {type(error).__name__}: {_first_line(error)}")
    raise TellapartError(
        "export_failed",
        f"The backbone cannot be turned into an ONNX graph ({'; '.join(reasons)}).",
        "Choose another --backbone.",
    )


def export_folder(folder: Path, image_size: int, target: Path) -> dict[str, object]:
    """Write the graph of a timm weights folder to `target`; returns `{"exporter", "width", "torch"}`.

    Nobody waits for the disk: whoever reads the graph compares its digest.
    """
    trunk = load_trunk(folder, image_size)
    graph, exporter = export(trunk, image_size)
    target.write_bytes(graph)
    return {"exporter": exporter, "width": trunk.width, "torch": torch.__version__}


def _names(trunk: Trunk) -> list[str]:
    return ["embedding", "feature_map"] if trunk.has_map else ["embedding"]


def _traced(trunk: Trunk, image_size: int) -> bytes:
    return traced(trunk, image_size, _names(trunk))


def traced(network: nn.Module, image_size: int, outputs: list[str]) -> bytes:
    """Return the ONNX graph of a network of pictures uint8 [N, S, S, 3], by the tracing exporter, unchecked."""
    file = io.BytesIO()
    with _quiet():  # it prints the whole graph when it fails
        torch.onnx.export(
            network,
            (_pictures(2, image_size),),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=["image"],
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in ["image", *outputs]},
            opset_version=_OPSET_TRACED,
            do_constant_folding=True,
            verbose=False,
        )
    return file.getvalue()


def _compiled(trunk: Trunk, image_size: int) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            trunk,
            (_pictures(2, image_size),),
            dynamo=True,
            input_names=["image"],
            output_names=_names(trunk),
            dynamic_shapes={"image": {0: torch.export.Dim("N")}},
            opset_version=_OPSET_DYNAMO,
            verbose=False,
        )
    assert program is not None
    graph: bytes = program.model_proto.SerializeToString()
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what exporters print and warn of: parity is what decides whether a graph is good."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def stripped(graph: bytes) -> bytes:
    """Return an ONNX graph without what exporters leave in it: versions, source lines, paths, doc strings."""
    import onnx

    model = onnx.load_model_from_string(graph)
    model.producer_name = "tellapart"
    for field in ("producer_version", "domain", "doc_string", "metadata_props", "model_version"):
        model.ClearField(field)
    model.graph.name = "trunk"
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]
    for part in [model.graph, *model.graph.node, *values, *model.functions]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del model.graph.value_info[:]
    text: bytes = model.SerializeToString(deterministic=True)
    return text


def _difference(trunk: Trunk, graph: bytes, image_size: int) -> float:
    """Return the largest difference between onnxruntime and torch, relative to the largest value of an output."""
    from tellapart.runtime.session import Session

    session = Session(graph, threads=1)
    worst = 0.0
    for batch in (1, 3):
        image = _pictures(batch, image_size, seed=batch)
        with torch.inference_mode():
            expected = dict(zip(_names(trunk), trunk(image), strict=True))
        given = session.run(image.numpy())
        for name, value in expected.items():
            reference = value.numpy()
            if given[name].shape != reference.shape:
                raise ValueError(f"{name} has shape {given[name].shape} where torch gives {reference.shape}")
            scale = max(float(np.abs(reference).max()), 1e-6)
            worst = max(worst, float(np.abs(given[name] - reference).max()) / scale)
    return worst if np.isfinite(worst) else float("inf")


def _pictures(batch: int, image_size: int, seed: int = 0) -> torch.Tensor:
    """Return uint8 [batch, S, S, 3]: soft blobs with noise on top, as near to photographs as chance gives."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(image_size, image_size), mode="bilinear")
    noisy = smooth + 0.1 * torch.rand(smooth.shape, generator=generator)
    return noisy.mul(230).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def fetch(name: str, tell: Callable[[dict[str, object]], None]) -> dict[str, object]:
    """Fetch the weights of a timm name into the hub's cache; returns `{"repository"}`. Raises RecipeError.

    `tell` is given `{"asking"}` and, as soon as the hub has answered, `{"reached"}`: whoever waits can tell a slow
    network from a closed one.
    """
    timm = import_timm()
    config = timm.models.get_pretrained_cfg(name)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        raise RecipeError(
            "no_weights_on_hub", f"timm knows no weights on the hub for {name!r}.", "Choose another --backbone."
        )
    from huggingface_hub import hf_hub_download

    try:
        tell({"asking": repository})
        hf_hub_download(repository, "config.json")
        tell({"reached": repository})
        hf_hub_download(repository, "model.safetensors")
    except Exception as error:
        raise RecipeError(
            "hub_unreachable",
            f"the hub did not give the weights of {name} ({type(error).__name__}: {_first_line(error)})",
            "Put them into $TELLAPART_WEIGHTS.",
        ) from None
    return {"repository": repository}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
