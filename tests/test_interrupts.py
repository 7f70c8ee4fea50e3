"""A signal while modules are imported neither breaks them nor becomes a fault of ours."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tellapart.cli.failures import failed
from tellapart.interrupts import Signalled, forget_waiting, raise_signalled, signalled_by

# What Python does with an exception in `__set_name__` is make another of it.
MODULE = """
import signal


class Field:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.{number})


class Model:
    facts = Field()


WHOLE = True
"""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def signalled(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that is sent a signal while it is imported; the signal raises."""
    name = f"imported_at_{request.param.name}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(number=request.param.name))
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(request.param, raise_signalled)
    try:
        yield name
    finally:
        signal.signal(request.param, before)
        sys.modules.pop(name, None)


def test_a_signal_while_a_module_is_imported_is_raised_when_it_is_whole(signalled: str) -> None:
    module = importlib.import_module(signalled)
    with pytest.raises(Signalled) as caught:
        threading.Event().wait(30)
    assert module.WHOLE
    assert f"imported_at_{signal.Signals(caught.value.number).name}" == signalled


def test_signals_of_two_kinds_in_one_import_raise_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_at_two.py").write_text(
        f"{MODULE.format(number='SIGINT')}\nsignal.raise_signal(signal.SIGTERM)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = {number: signal.signal(number, raise_signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        importlib.import_module("imported_at_two")
        with pytest.raises(Signalled):
            threading.Event().wait(30)
        assert not threading.Event().wait(0.2), "nothing comes later, while things are put in order"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_that_waits_is_let_go_with_those_who_listened(signalled: str) -> None:
    importlib.import_module(signalled)
    forget_waiting()
    assert not threading.Event().wait(0.2)


def test_a_signal_outside_of_an_import_is_raised_at_once() -> None:
    with pytest.raises(Signalled) as caught:
        raise_signalled(signal.SIGTERM, sys._getframe())
    assert caught.value.number == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_became_is_told_as_the_signal(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    made = RuntimeError("Error calling __set_name__ on 'Field' instance 'facts' in 'Manifest'")
    made.__cause__ = Signalled(number)
    assert signalled_by(made) is made.__cause__
    assert failed(made, ["predict"]) == 128 + number
    assert "interrupted" in capsys.readouterr().err


def test_a_fault_after_a_signal_that_was_dealt_with_is_a_fault() -> None:
    fault = ValueError("while tidying up")
    fault.__context__ = Signalled(signal.SIGINT)
    assert signalled_by(fault) is None
