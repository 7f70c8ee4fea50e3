"""The card of a bundle: everything about a model that is not an array, and the digests of its files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tellapart.errors import BundleError
from tellapart.images.preprocess import Preprocess

__all__ = [
    "CARD",
    "COMPANIONS",
    "FILES",
    "IR",
    "MODEL",
    "ORT_WEB",
    "PAGE",
    "REFERENCE",
    "SELFTEST",
    "VERSION",
    "Card",
    "Thresholds",
    "parse_card",
    "seal_card",
]

VERSION = 1
CARD, MODEL, REFERENCE, SELFTEST = "card.json", "model.onnx", "reference.safetensors", "selftest.safetensors"
FILES = (CARD, MODEL, REFERENCE, SELFTEST)
IR = ("model.xml", "model.bin")
PAGE = ("index.html", "page.css", "page.js", "model.js", "novelty.js")
ORT_WEB = ("ort.mjs", "ort.wasm", "ort.LICENSE.txt")
COMPANIONS = (*IR, *PAGE, *ORT_WEB)
"""What `export` may put into a bundle for others to run: listed in the card, held to it, and never opened here."""

_MAX_DEPTH = 32
_ZEROS = "0" * 64
_OWN_DIGEST = re.compile(rb'"card\.json": "([0-9a-f]{64})"')
_AGAIN = "Train or export it again."


class Thresholds(BaseModel):
    """A picture is answered with its label when its top probability and its novelty are within these.

    What they were chosen for and on comes along: the target, and on `n` held-out pictures the share answered
    (`coverage`), the share of those that was right (`precision`), and whether that was enough (`reached`). Sets of the
    likeliest classes that add up to `set_mass` hold the true one with probability `set_coverage`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_prob: float = Field(0.0, ge=0.0, le=1.0)
    max_novelty: float = Field(1.0, ge=0.0, le=1.0)
    target_precision: float | None = Field(None, ge=0.0, le=1.0)
    target_coverage: float | None = Field(None, ge=0.0, le=1.0)
    coverage: float | None = Field(None, ge=0.0, le=1.0)
    precision: float | None = Field(None, ge=0.0, le=1.0)
    n: int | None = Field(None, ge=0)
    reached: bool | None = None
    set_mass: float | None = Field(None, ge=0.0, le=1.0)
    set_coverage: float | None = Field(None, ge=0.0, le=1.0)


class Card(BaseModel):
    """`card.json`, version 1. `digests` are sha256 in hex, `sizes` are bytes; both name all files but the card, and
    those of `COMPANIONS` that are there.

    `outputs` are the graph's, in its order. `temperature` has been folded into the head. `metrics` holds `val` and
    `test`, each the metrics object of the JSON contract or null. `lineage` says where the bundle comes from:
    `parent`, `created` (UTC), `tellapart` (the version that wrote it).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    classes: tuple[str, ...] = Field(min_length=1, max_length=1_000_000)
    preprocess: Preprocess
    method: str
    backbone: str | None = None
    backbone_licence: str | None = None
    metrics: dict[str, dict[str, Any] | None] = {}
    thresholds: Thresholds = Thresholds()
    temperature: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    recipe: dict[str, Any] = {}
    fingerprint: str = ""
    lineage: dict[str, Any] = {}
    outputs: tuple[str, ...]
    digests: dict[str, str]
    sizes: dict[str, int]


def seal_card(card: Card) -> bytes:
    """Return the bytes of `card.json`: with a digest of itself, taken while that digest's place holds zeros."""
    value = card.model_dump(mode="json")
    value["digests"] = {CARD: _ZEROS, **value["digests"]}
    unsealed = (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
    digest = hashlib.sha256(unsealed).hexdigest()
    return unsealed.replace(f'"{CARD}": "{_ZEROS}"'.encode(), f'"{CARD}": "{digest}"'.encode(), 1)


def parse_card(content: bytes) -> Card:
    """Return the card that the bytes of `card.json` hold.

    Raises BundleError: `bundle_newer` for a version this tellapart does not know, `bundle_digest` when the card was
    changed after it was sealed, `bundle_card` for anything else (not strict JSON, a wrong type, an unknown field).
    """
    value = _strict_json(content)
    if not isinstance(value, dict):
        raise BundleError("bundle_card", f"{CARD} holds {type(value).__name__}, not an object.", _AGAIN)
    version = value.get("version")
    if type(version) is int and version > VERSION:
        raise BundleError(
            "bundle_newer",
            f"The bundle has format {version}; this tellapart reads up to {VERSION}.",
            f"Upgrade to {_written_by(value)}: pip install -U tellapart",
        )
    if type(version) is not int or version < 1:
        raise BundleError("bundle_card", f"{CARD} has no version.", _AGAIN)
    digests = value.get("digests")
    own = digests.pop(CARD, None) if isinstance(digests, dict) else None
    places = _OWN_DIGEST.findall(content)
    if not isinstance(own, str) or len(places) != 1:
        raise BundleError("bundle_card", f"{CARD} has no digest of itself.", _AGAIN)
    unsealed = content.replace(b'"card.json": "%s"' % places[0], b'"card.json": "%s"' % _ZEROS.encode(), 1)
    if hashlib.sha256(unsealed).hexdigest() != own:
        raise BundleError("bundle_digest", f"{CARD} was changed after it was written.", "Take a fresh copy.")
    try:
        card = Card.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part)[:80] for part in first["loc"])
        raise BundleError("bundle_card", f"{CARD} is wrong at {place!r} ({first['msg']}).", _AGAIN) from None
    if len(set(card.classes)) != len(card.classes):
        raise BundleError("bundle_classes", f"{CARD} names a class twice.", _AGAIN)
    return card


def _written_by(value: dict[str, Any]) -> str:
    lineage = value.get("lineage")
    version = lineage.get("tellapart") if isinstance(lineage, dict) else None
    known = isinstance(version, str) and re.fullmatch(r"[0-9][0-9A-Za-z.+]{0,30}", version)
    return f"tellapart {version} or later" if known else "the newest tellapart"


def _strict_json(content: bytes) -> Any:
    try:
        value = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
        _check_depth(value, _MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]
        raise BundleError("bundle_card", f"{CARD} is not strict JSON ({reason}).", _AGAIN) from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise RecursionError
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _check_depth(item, left - 1)
