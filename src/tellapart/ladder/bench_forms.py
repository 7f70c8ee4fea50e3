"""The forms of a bundle that `bench` may choose from: exported ones that lie beside it, and one in 8 bits made here."""

from __future__ import annotations

import shutil
from pathlib import Path

from tellapart.errors import BundleError, DataError, GateError, InputError, MissingExtraError
from tellapart.events import Note, Steps
from tellapart.ladder.export import Wish, export
from tellapart.ladder.export_gate import Judged, judged
from tellapart.ladder.export_sample import Sample, sample
from tellapart.learn.rungs import FloatArray
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle, read_card
from tellapart.runtime.card import CARD
from tellapart.runtime.session import Runs
from tellapart.runtime.setting import card_digest
from tellapart.ship.observe import outputs_by

__all__ = ["Accuracy", "Beside", "forms_beside"]

_MOST = 3
_MAX_DROP = 0.5  # points


class Beside:
    """The forms of a bundle by the names of their folders, `` for itself; `made` is the one that was written now."""

    def __init__(self, forms: dict[str, Bundle], made: Path | None) -> None:
        self.forms = forms
        self._made = made

    def tidy(self, chosen: str) -> None:
        """Take away what was made and is not `chosen`."""
        if self._made is not None and self._made.name != chosen:
            shutil.rmtree(self._made, ignore_errors=True)


def forms_beside(bundle: Bundle) -> Steps[Beside]:
    """Return the forms there are; where none is in 8 bits, one is made through the gate of `export`, if it can be."""
    home = bundle.path.resolve()
    forms = {"": bundle}
    digest = card_digest(home)
    for place in _exports(home, digest):
        try:
            forms[place.name] = Bundle(place)
        except BundleError as error:
            yield Note("warning", f"{place.name} beside the bundle is let be: {error}")
    own = bundle.card.lineage.get("precision")
    if any(form.card.lineage.get("precision") == "int8" for form in forms.values()) or own == "int8":
        return Beside(forms, None)
    place = home.with_name(f"{home.name}.int8")
    if place.exists():
        yield Note("info", f"{place} is in the way of a form in 8 bits: it was not made from this bundle.")
        return Beside(forms, None)
    try:
        yield from export(bundle.path, place, Wish("int8"), None, Recipe(), with_page=False)
        forms[place.name] = Bundle(place)
    except (GateError, DataError, InputError, MissingExtraError, OSError) as error:
        yield Note("info", f"No form in 8 bits is measured: {error}")
        return Beside(forms, None)
    return Beside(forms, place)


def _exports(home: Path, digest: str) -> list[Path]:
    """Return the folders beside a bundle that were exported from it for any runtime, the first ones by name."""
    found = []
    for place in sorted(home.parent.iterdir()):
        if place.is_symlink() or not (place / CARD).is_file():
            continue
        try:
            lineage = read_card(place).lineage
        except BundleError:
            continue
        if lineage.get("parent") == digest and lineage.get("to") == "onnx" and lineage.get("resizes") is False:
            found.append(place)
    return found[:_MOST]


class Accuracy:
    """How right ways to run a bundle are, on labelled pictures of its run or of `pictures`, prepared when needed."""

    def __init__(self, bundle: Bundle, pictures: Path | None = None) -> None:
        self._bundle = bundle
        self._pictures = pictures
        self._sample: Sample | None = None
        self._before: FloatArray | None = None

    def of(self, session: Runs) -> Steps[tuple[Judged | None, str | None]]:
        """Return how right the bundle is by `session`, and why that is not enough, None where it is."""
        if self._sample is None:
            try:
                self._sample = yield from self._labelled()
            except (DataError, InputError) as error:
                return None, f"its accuracy cannot be measured: {error.message}"
        some = self._sample
        if self._before is None:
            self._before = outputs_by(self._bundle.session, some.judge)[0]
        after = outputs_by(session, some.judge)[0]
        found = judged(self._before, after, some.targets, some.groups, self._bundle.classes, _MAX_DROP)
        return found, found.refused

    def _labelled(self) -> Steps[Sample]:
        try:
            return (yield from sample(self._bundle, None, Recipe()))
        except DataError:
            if self._pictures is None or not self._pictures.is_dir():
                raise
        return (yield from sample(self._bundle, self._pictures, Recipe()))
