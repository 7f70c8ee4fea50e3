"""Numbers and names as a person reads them: percentages, durations, sizes, and names made harmless to look at."""

from __future__ import annotations

import math
import unicodedata

__all__ = [
    "amount",
    "duration",
    "ends",
    "interval",
    "metric",
    "percent",
    "plain",
    "quoted",
    "shortened",
    "size",
    "visible",
]

_NO_BREAK = "\u00a0"
ISOLATE, END_ISOLATE = "\u2068", "\u2069"
# Joiners shape emoji and Persian or Indic words, and reorder nothing.
_HARMLESS_FORMAT = "\u200c\u200d"


def percent(value: float | None, n: int | None = None) -> str:
    """Return `0.967` as `96.7%`; whole percents where they stand on fewer than 100 pictures; `–` for no number.

    Never rounds up to 100% or down to 0% what is not exactly so.
    """
    if value is None or not math.isfinite(value):
        return "–"
    digits = 0 if n is not None and n < 100 else 1
    step = 10.0**-digits
    scaled = round(value * 100, digits)
    if value < 1 and scaled >= 100:
        scaled = 100 - step
    if value > 0 and scaled <= 0:
        return f"under{_NO_BREAK}{step:.{digits}f}%"
    return f"{scaled:.{digits}f}%"


def interval(low: float | None, high: float | None, n: int | None = None) -> str:
    """Return `92.6 to 98.6%`, or an empty string where an end is missing."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{percent(low, n).removesuffix('%')} to {percent(high, n)}"


def metric(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` decimals, or `–` for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def ends(bounds: tuple[float | None, float | None], digits: int = 3) -> str:
    """Return `0.041 to 0.112`, or an empty string where an end is missing."""
    low, high = bounds
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{metric(low, digits)} to {metric(high, digits)}"


def amount(value: float | None) -> str:
    """Return a count with its thousands apart, such as `12,480`."""
    return "–" if value is None or not math.isfinite(value) else f"{round(value):,}"


def duration(seconds: float | None) -> str:
    """Return seconds as `0.04 s`, `9.8 s`, `2 min 5 s` or `1 h 3 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        digits = 2 if 0 < seconds < 0.95 else 1
        text = f"{seconds:.{digits}f}" if seconds < 9.95 else f"{seconds:.0f}"
        return f"{text}{_NO_BREAK}s" if text != "60" else f"1{_NO_BREAK}min"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_NO_BREAK}min" + (f" {rest}{_NO_BREAK}s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{_NO_BREAK}h" + (f" {minutes}{_NO_BREAK}min" if minutes else "")


def size(num_bytes: float | None) -> str:
    """Return bytes as `3.9 GB`, in powers of 1,000."""
    if num_bytes is None or not math.isfinite(num_bytes):
        return "–"
    value, unit = float(num_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f}{_NO_BREAK}{unit}" if unit == "B" or value >= 99.5 else f"{value:.1f}{_NO_BREAK}{unit}"


def visible(text: str) -> str:
    """Return `text` with every character that acts on the reader instead of being read made into a sign.

    Controls become their pictures (`␀`), bytes of no encoding `\\xNN`, and format characters, bidirectional ones above
    all, `‹U+202E›`; so a name looks like what it is (Unicode TR 36, section 2.5). UTF-8 can encode the result.
    """
    return text if text.isascii() and text.isprintable() else "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character in _HARMLESS_FORMAT:
        return character
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return f"‹U+{code:04X}›"
    return character


def quoted(name: str) -> str:
    """Return a name made visible and not too long, in quotation marks, isolated so that its direction stays its own."""
    return f"“{ISOLATE}{shortened(name, 48)}{END_ISOLATE}”"


def plain(sentence: str) -> str:
    """Return a sentence without the isolation marks that `quoted` put in, for places that show plain text."""
    return sentence.replace(ISOLATE, "").replace(END_ISOLATE, "")


def shortened(name: str, longest: int = 24) -> str:
    """Return a name made visible and, past `longest` characters, cut in its middle."""
    seen = visible(name)
    if len(seen) <= longest:
        return seen
    head = longest // 2
    return f"{seen[:head]}…{seen[len(seen) - (longest - 1 - head) :]}"
