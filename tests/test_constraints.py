"""Every direct and transitive version is pinned, so that every machine resolves to what was tested."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Installers, which a machine brings with it.
NOT_OURS = {"tellapart", "pip", "uv", "setuptools", "wheel"}
# The oldest releases that are free of what we know to be harmful (decoders and loaders of hostile files).
AT_LEAST = {"pillow": "12.3", "torch": "2.10", "onnx": "1.21"}


def pins(table: str = "constraint-dependencies") -> dict[str, Requirement]:
    requirements = [Requirement(line) for line in PROJECT["tool"]["uv"][table]]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def direct() -> list[Requirement]:
    project = PROJECT["project"]
    lines = [*project["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    return [Requirement(line) for line in lines]


def is_checkout() -> bool:
    """Return whether this runs in the environment that `uv run` makes; another may hold what it likes."""
    installed = importlib.metadata.distribution("tellapart")
    return '"editable": true' in (installed.read_text("direct_url.json") or "").replace('":true', '": true')


@pytest.mark.parametrize("table", ["constraint-dependencies", "build-constraint-dependencies"])
def test_each_pin_is_one_exact_version(table: str) -> None:
    lines = PROJECT["tool"]["uv"][table]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert [line.split("==")[0] for line in lines] == sorted({line.split("==")[0] for line in lines})


@pytest.mark.skipif(not is_checkout(), reason="tellapart is not installed from a checkout here")
def test_every_installed_version_is_the_pinned_one() -> None:
    pinned = pins()
    wrong = []
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        if name in NOT_OURS and name not in pinned:
            continue
        if name not in pinned or not pinned[name].specifier.contains(distribution.version, prereleases=True):
            wrong.append(f"{name}=={distribution.version}")
    assert wrong == []


def test_every_direct_dependency_is_pinned_within_its_own_range() -> None:
    pinned = pins()
    for requirement in direct():
        name = canonicalize_name(requirement.name)
        if name == "tellapart":
            continue
        [exact] = pinned[name].specifier
        assert requirement.specifier.contains(exact.version), name


@pytest.mark.parametrize(("name", "version"), AT_LEAST.items())
def test_no_version_known_to_be_harmful_is_allowed(name: str, version: str) -> None:
    [requirement] = [found for found in direct() if canonicalize_name(found.name) == name]
    [lower] = [bound for bound in requirement.specifier if bound.operator == ">="]
    assert Version(lower.version) >= Version(version)


def test_no_package_index_is_named() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in PROJECT["tool"]["uv"]
    assert "sources" not in PROJECT["tool"]["uv"]
