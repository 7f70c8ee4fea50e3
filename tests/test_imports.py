"""Import time is a property of the product: the package and `--help` load nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "sklearn",
    "scipy",
    "pyarrow",
    "onnxruntime",
    "numpy",
    "PIL",
    "pydantic",
)

LOADED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"


def loaded_by(program: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\n{LOADED}"], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(ran.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "program",
    [
        "import tellapart; dir(tellapart); tellapart.__version__",
        "from tellapart.cli import main; main(['--help'])",
        "from tellapart.cli import main; main(['--version'])",
        "import tellapart.__main__",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    assert loaded_by(program).isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate", "explain", "demo"])
def test_the_help_of_a_verb_loads_no_network_library(verb: str) -> None:
    loaded = loaded_by(f"from tellapart.cli import main; main(['{verb}', '--help'])")
    assert loaded.isdisjoint({"torch", "timm", "torchvision", "onnxruntime", "onnx", "sklearn", "scipy", "numpy"})


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "explain", "demo"])
def test_the_verbs_load_no_network_library_until_they_are_called(name: str) -> None:
    loaded = loaded_by(f"import tellapart; tellapart.{name}")
    assert loaded.isdisjoint({"torch", "timm", "torchvision", "onnxruntime", "onnx", "sklearn", "scipy"})


def test_python_m_runs_the_command_line() -> None:
    ran = subprocess.run([sys.executable, "-m", "tellapart", "--version"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0
    assert ran.stdout.startswith("tellapart ")
