"""The floors of docs/architecture.md, read from the imports: those inside functions and those for types too."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tellapart"
FILES = sorted(SOURCE.rglob("*.py"))

# What may import torch, torchvision and timm. A new name here needs a reason.
TORCH_FILES = {
    "learn/torch_activations.py",
    "learn/torch_augment.py",
    "learn/torch_balancing.py",
    "learn/torch_batches.py",
    "learn/torch_checkpoint.py",
    "learn/torch_colours.py",
    "learn/torch_crew.py",
    "learn/torch_devices.py",
    "learn/torch_embed.py",
    "learn/torch_export.py",
    "learn/torch_family.py",
    "learn/torch_finetune.py",
    "learn/torch_folds.py",
    "learn/torch_heads.py",
    "learn/torch_last.py",
    "learn/torch_loop.py",
    "learn/torch_mix.py",
    "learn/torch_muon.py",
    "learn/torch_networks.py",
    "learn/torch_norms.py",
    "learn/torch_optimizers.py",
    "learn/torch_parcels.py",
    "learn/torch_profile.py",
    "learn/torch_rate.py",
    "learn/torch_scratch.py",
    "learn/torch_shards.py",
    "learn/torch_soup.py",
    "learn/torch_stages.py",
    "learn/torch_step.py",
    "learn/torch_survey.py",
    "learn/torch_task.py",
    "learn/torch_together.py",
    "learn/torch_tuned.py",
    "learn/torch_tuning.py",
    "learn/torch_validate.py",
    "learn/torch_variations.py",
    "learn/torch_where.py",
    "learn/torch_world.py",
}
TORCH = {"torch", "torchvision", "timm", "huggingface_hub"}
EXTRAS = {"onnx", "onnxscript", "openvino", "optuna", "sklearn", "pyarrow", "threadpoolctl"}
BASE = {"numpy", "PIL", "onnxruntime", "pydantic", "typer", "rich", "jinja2", "markupsafe", "safetensors"}
# Floors that the base install runs: no extra is imported there, not even inside a function.
OPTIONAL = {("runtime/openvino_session.py", "openvino")}  # another runtime, for whoever has it
BASE_FLOORS = {"runtime", "images", "judge", "report"}
LONGEST_FILE = 400


@dataclass(frozen=True)
class Import:
    """One import: the module's dotted name, its line, and whether it runs when the file is imported."""

    module: str
    line: int
    at_import: bool


def tower() -> list[set[str]]:
    """Return the floors from the first block of docs/architecture.md, highest first."""
    block = re.search(r"```\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    floors = [re.match(r"((?:\w+(?:/|\.py)\s+)+)", f"{line} ") for line in block[1].splitlines()]
    return [{re.sub(r"/|\.py", "", name) for name in floor[1].split()} for floor in floors if floor]


def floor_of(module: str) -> int:
    """Return the height of `tellapart.x.y`: 0 is the highest."""
    part = module.split(".")[1]
    if part == "__main__":
        return 0
    found = [height for height, names in enumerate(tower()) if part in names]
    assert found, f"{part} stands on no floor of docs/architecture.md"
    return found[0]


def module_of(path: Path) -> str:
    parts = ("tellapart", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(module: str) -> bool:
    place = SOURCE.joinpath(*module.split(".")[1:])
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def imports_of(path: Path, text: str | None = None) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8") if text is None else text)
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node, at_import in _walk(tree, at_import=True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{start}.{alias.name}"
                yield Import(
                    inner if start.startswith("tellapart") and exists(inner) else start, node.lineno, at_import
                )
        elif isinstance(node, ast.Call) and _name(node.func) in {"import_module", "__import__"} and node.args:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield Import(named.value, node.lineno, at_import)


def _walk(node: ast.AST, at_import: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(child, ast.If) and _name(child.test) == "TYPE_CHECKING"
        yield child, at_import
        yield from _walk(child, at_import and not inside and not for_types)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_the_tower_is_read() -> None:
    floors = tower()
    assert floors[0] == {"cli"}
    assert {"errors", "recipe", "events"} <= floors[-1]
    assert floor_of("tellapart.cli.train") < floor_of("tellapart.api") < floor_of("tellapart.images.decode")


def test_every_kind_of_import_is_seen() -> None:
    text = """
import tellapart.cli
from tellapart import api
from . import bundle
from ..images import decode
def f():
    from tellapart.ladder import plan
    importlib.import_module("tellapart.learn")
if TYPE_CHECKING:
    import torch
"""
    seen = {(found.module, found.at_import) for found in imports_of(SOURCE / "runtime" / "predictor.py", text)}
    assert seen == {
        ("tellapart.cli", True),
        ("tellapart.api", True),
        ("tellapart.runtime.bundle", True),
        ("tellapart.images.decode", True),
        ("tellapart.ladder.plan", False),
        ("tellapart.learn", False),
        ("torch", False),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_its_own_floor_and_lower_ones(path: Path) -> None:
    module = module_of(path)
    if module == "tellapart":  # the face of the package: names of the API, fetched when they are asked for
        assert [found for found in imports_of(path) if found.at_import and found.module.startswith("tellapart")] == []
        return
    height = floor_of(module)
    higher = [
        f"{path.name}:{found.line} imports {found.module}"
        for found in imports_of(path)
        if found.module.startswith("tellapart.") and floor_of(found.module) < height
    ]
    assert higher == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_is_imported_is_declared_and_in_its_place(path: Path) -> None:
    inner = path.relative_to(SOURCE)
    wrong = []
    for found in imports_of(path):
        top = found.module.split(".")[0]
        if top in sys.stdlib_module_names or top == "tellapart":
            continue
        if top in TORCH:
            allowed = inner.as_posix() in TORCH_FILES
        elif top in EXTRAS:
            late = not found.at_import or inner.as_posix() in TORCH_FILES
            allowed = late and (inner.parts[0] not in BASE_FLOORS or (inner.as_posix(), top) in OPTIONAL)
        elif top == "typer":
            allowed = inner.parts[0] == "cli"
        else:
            allowed = top in BASE
        if not allowed:
            wrong.append(f"{inner}:{found.line} imports {found.module}")
    assert wrong == []


def test_files_that_may_import_torch_are_named_for_it_and_exist() -> None:
    assert {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("torch_*.py")} == TORCH_FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_torch_files_are_imported_inside_functions_alone(path: Path) -> None:
    if path.name.startswith("torch_"):
        return
    early = [
        f"{path.name}:{found.line} imports {found.module}"
        for found in imports_of(path)
        if found.at_import and found.module.split(".")[-1].startswith("torch_")
    ]
    assert early == []


def test_no_file_asks_to_be_two() -> None:
    long = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_no_module_is_named_for_nothing() -> None:
    refused = {"utils", "helper", "helpers", "manager", "handler", "engine", "misc", "common", "process", "data2"}
    assert [path for path in FILES if path.stem in refused] == []
