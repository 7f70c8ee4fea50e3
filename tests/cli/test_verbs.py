"""The table of verbs, which `--help` shows without importing any, is true."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tellapart.cli
from tellapart.cli.verbs import VERBS, command


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_in_the_table_is_the_first_of_the_docstring(verb: str) -> None:
    name = verb.replace("-", "_")
    function = getattr(importlib.import_module(f"tellapart.cli.{name}"), name)
    assert (function.__doc__ or "").splitlines()[0] == VERBS[verb]
    assert command(verb).name == verb


def test_every_module_that_holds_a_verb_is_in_the_table() -> None:
    modules = {module.name for module in pkgutil.iter_modules(tellapart.cli.__path__)}
    holding = {name for name in modules if hasattr(importlib.import_module(f"tellapart.cli.{name}"), name)}
    assert {name.replace("_", "-") for name in holding} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(tellapart, verb: str) -> None:
    ran = tellapart(verb, "--help")
    assert ran.code == 0
    assert f"tellapart {verb}" in ran.out
    assert "--debug" in ran.out


@pytest.mark.parametrize("verb", [*VERBS, None])
def test_a_flag_takes_nothing_and_its_help_says_so(tellapart, verb: str | None) -> None:
    out = tellapart(*([verb] if verb else []), "--help").out
    assert "--help" in out
    assert "bool" not in out.lower()


def test_version(tellapart) -> None:
    assert tellapart("--version").out == f"tellapart {tellapart_version()}\n"


def tellapart_version() -> str:
    import tellapart as package

    return package.__version__
