"""A picture's header: what it is and how large, before anything is decoded, and whether it may be."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, PngImagePlugin

from tellapart.errors import PictureError
from tellapart.images import structure
from tellapart.images.preprocess import DecodePolicy
from tellapart.images.profiles import read_profile
from tellapart.images.readers import READERS, Tiff, lacks_its_end_alone
from tellapart.images.sniff import FORMATS, HEAD_BYTES, Format, sniff, stranger

__all__ = ["COLOUR_MODES", "ODDITIES", "Header", "complete", "extension_lies", "opened", "read_header", "shown_name"]


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself. `width` and `height` are in pixels, after EXIF orientation (1 to 8) is applied.

    `mode` is Pillow's name of the pixels as stored. `sixteen_bit` means 16-bit grey, to which
    `DecodePolicy.sixteen_bit_scale` applies. `grey` means that the mode has no colour. `num_frames` is None for a TIFF
    whose pages were not, or cannot be, counted. `notes` are stable names of oddities that do not keep the picture from
    being used; `ODDITIES` has them all.
    """

    format: Format
    width: int
    height: int
    mode: str
    num_frames: int | None
    sixteen_bit: bool
    grey: bool
    orientation: int
    notes: tuple[str, ...] = ()


_SUFFIXES: dict[str, Format] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"})
_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "RGBX"})
_REFUSED_MODES = {"F": "floating-point", "I": "32-bit or signed integer"}
_CAN_WARN: frozenset[Format] = frozenset({"TIFF", "GIF"})
_AGAIN = "Fetch the picture again, or remove the file."

# What may be odd about a picture that is used all the same, in words that follow "has" or "have".
ODDITIES = {
    "extension_lies": "a name that says another format than they are",
    "trailing_bytes": "more bytes after the picture's end, which were not looked at",
    "several_frames": "several frames, of which the first was taken",
    "several_pages": "several pages, of which the first was taken",
    "sixteen_bit_colour": "16 bits a colour, of which 8 were read",
    "icc_profile_broken": "a colour profile that is broken, and was ignored",
    "wide_gamut": "colours beyond sRGB, which were brought there by their profile",
    "wide_gamut_ignored": "colours beyond sRGB, which were taken as if they were not, as --colour-profiles asks",
    "exif_broken": "broken EXIF data or an orientation that there is not, which were ignored",
    "place": "a place (GPS) in their metadata: think of it before you hand them on; reports and bundles do not show it",
    "truncated": "a file that ends early, and were used as far as they go, as --allow-truncated asks",
    "decoder_noise": "something that their decoder complained of",
}

_quiet_lock = threading.Lock()


def read_header(source: Path | bytes, policy: DecodePolicy = DecodePolicy()) -> Header:  # noqa: B008 (frozen)
    """Return what a picture's file (a path, or its bytes) says of itself; nothing is decoded.

    Raises PictureError with the codes of `decode` that a header can tell: every one but damage in the pixels.
    """
    with opened(source, policy) as (_, header, file):
        return complete(header, file)


def complete(header: Header, file: BinaryIO, decodes: bool = False) -> Header:
    """Return the header with what only another look into the file tells; `decodes`: it is known that it does."""
    notes = list(header.notes)
    if structure.has_trailing_bytes(file, header.format, decodes):
        notes.append("trailing_bytes")
    num_frames = structure.tiff_pages(file) if header.format == "TIFF" else header.num_frames
    if num_frames != 1:
        notes.append("several_pages" if header.format == "TIFF" else "several_frames")
    return dataclasses.replace(header, num_frames=num_frames, notes=tuple(notes))


def extension_lies(path: str, format: Format) -> bool:
    """Say whether a file's name says another picture format than it has."""
    return _SUFFIXES.get(os.path.splitext(path)[1].lower(), format) != format


@contextlib.contextmanager
def opened(source: Path | bytes, policy: DecodePolicy) -> Iterator[tuple[ImageFile.ImageFile, Header, BinaryIO]]:
    """Give Pillow's picture, not decoded yet, its header, and the file; the header is within the policy.

    Whatever goes wrong here or inside the block is raised as PictureError; no other Exception comes out.
    """
    name = shown_name(source)
    with contextlib.closing(_file(source, name)) as file:
        format: Format | None = None
        try:
            head = file.read(HEAD_BYTES)
            format = sniff(head)
            if format is None:
                found = stranger(head)
                allowed = ", ".join(FORMATS)
                raise PictureError(found.code, f"{name} is {found.words}; allowed are {allowed}.", found.next)
            file.seek(0)
            with _quiet(format in _CAN_WARN or b"acTL" in head):
                picture = _read(format, file)
            header = _header(picture, format, source, file, policy)
            _check(header, policy, name)
            yield picture, header, file
        except PictureError:
            raise
        except Exception as error:
            raise _refusal(error, name, file, format) from None


def _read(format: Format, file: BinaryIO) -> ImageFile.ImageFile:
    try:
        return READERS[format](file)
    except (ValueError, SyntaxError):
        # Pillow refuses a PNG for a colour profile that is broken, or larger than 1 MB; here profiles do not matter.
        file.seek(0)
        mended = structure.png_without_profile(file.read()) if format == "PNG" else None
        if mended is None:
            raise
        picture = PngImagePlugin.PngImageFile(io.BytesIO(mended))
        picture.info["icc_profile"] = b""  # there was one
        return picture


def shown_name(source: Path | bytes) -> str:
    """Return what messages call a picture: the name of its file, fit for a line, or `The picture`."""
    if isinstance(source, bytes):
        return "The picture"
    # Names are hostile input: a line break or a control sequence in one must not break a line of a log.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in source.name) or "The picture"


def _file(source: Path | bytes, name: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        # A pipe would block for ever when opened, so what is no regular file is never opened.
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise PictureError("not_a_file", f"{name} is no regular file, so it is never opened.", "Leave it out.")
        return open(source, "rb")
    except PermissionError:
        raise PictureError("permission", f"{name} may not be read.", "Change its permissions.") from None
    except FileNotFoundError:
        raise PictureError("unreadable", f"{name} does not exist.", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise PictureError("unreadable", f"{name} cannot be opened ({error}).", "Check the disk.") from None


@contextlib.contextmanager
def _quiet(needed: bool) -> Iterator[None]:
    """Keep Pillow from warning of broken tags. The filters are the process's, hence the lock, and only where needed."""
    if not needed:
        yield
        return
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(
    picture: ImageFile.ImageFile, format: Format, source: Path | bytes, file: BinaryIO, policy: DecodePolicy
) -> Header:
    width, height = picture.size
    if format == "TIFF":
        # Here Pillow's size is the upright one already.
        assert isinstance(picture, Tiff)
        tag = picture.tag_v2.get(0x0112, 1)
        exif = structure.Exif(tag if tag in range(1, 9) else 1, 0x8825 in picture.tag_v2, tag not in range(1, 9))
    else:
        exif = structure.read_exif(picture.info.get("exif"))
        if exif.orientation >= 5:
            width, height = height, width
    notes = []
    if isinstance(source, Path) and extension_lies(source.name, format):
        notes.append("extension_lies")
    if picture.mode not in _SIXTEEN_BIT_MODES and ";16" in str(picture.tile[0].args if picture.tile else ""):
        notes.append("sixteen_bit_colour")
    if "icc_profile" in picture.info:
        kind = read_profile(picture.info["icc_profile"] or b"").kind
        if kind == "broken":
            notes.append("icc_profile_broken")
        elif kind == "wide" and picture.mode in COLOUR_MODES:
            notes.append("wide_gamut" if policy.colour_profiles == "srgb" else "wide_gamut_ignored")
    if exif.broken:
        notes.append("exif_broken")
    if exif.place or b"GPSLatitude" in _bytes(picture.info.get("xmp")):
        notes.append("place")
    if format == "GIF":
        found = structure.gif_frames(file)
        num_frames = max(1, found[0]) if found is not None else 1
    elif format == "TIFF":
        num_frames = None
    else:
        num_frames = getattr(picture, "n_frames", 1)
    return Header(
        format=format,
        width=width,
        height=height,
        mode=picture.mode,
        num_frames=num_frames,
        sixteen_bit=picture.mode in _SIXTEEN_BIT_MODES,
        grey=picture.mode in _GREY_MODES,
        orientation=exif.orientation,
        notes=tuple(notes),
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode(errors="replace") if isinstance(value, str) else b""


def _check(header: Header, policy: DecodePolicy, name: str) -> None:
    width, height = header.width, header.height
    size = f"{width}x{height} pixels"
    if header.mode in _REFUSED_MODES:
        raise PictureError(
            "unsupported_format",
            f"{name} has {_REFUSED_MODES[header.mode]} levels, whose range is unknown; allowed are 1 to 16 bits.",
            "Convert it to an 8-bit or 16-bit picture.",
        )
    if max(width, height) > policy.max_aspect * min(width, height) > 0:
        raise PictureError(
            "extreme_aspect",
            f"{name} is {size}; the longer side may be at most {policy.max_aspect:g} times the shorter.",
            "Crop it, or remove it.",
        )
    if min(width, height) < policy.min_side_px:
        raise PictureError(
            "too_small",
            f"{name} is {size}; the shorter side must have at least {policy.min_side_px}.",
            "Remove it, or lower the least side.",
        )
    frames = header.num_frames or 1
    if width * height * frames > policy.max_pixels:
        raise PictureError(
            "too_many_pixels",
            f"{name} is {size}{f' in {frames:,} frames' if frames > 1 else ''}, {width * height * frames:,} in all; "
            f"the most is {policy.max_pixels:,}.",
            f"{'Save its first frame alone' if frames > 1 else 'Scale it down'}, or raise max-pixels.",
        )


def _refusal(error: Exception, name: str, file: BinaryIO, format: Format | None) -> PictureError:
    """Return the PictureError for what Pillow, Python or the system raised."""
    if isinstance(error, MemoryError):
        return PictureError("decode_oom", f"{name} needs more memory to decode than there is.", "Scale it down.")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return PictureError("too_many_pixels", f"{name} has more pixels than Pillow allows.", "Scale it down.")
    if (isinstance(error, OSError) and error.errno is not None) or format is None:
        return PictureError("unreadable", f"{name} cannot be read ({error}).", "Check the disk.")
    if "truncated" in str(error).lower() or structure.ends_early(file, format):
        return _truncated(name, file, format)
    return PictureError("corrupt", f"{name} is a damaged {format} file ({_one_line(error)}).", _AGAIN)


def _truncated(name: str, file: BinaryIO, format: Format) -> PictureError:
    message = f"{name} is a {format} file that ends early: a part of it is missing."
    if format != "JPEG":
        return PictureError("truncated", message, _AGAIN)
    file.seek(0)
    if lacks_its_end_alone(file.read()):
        message = f"{name} is a JPEG file without its last two bytes, the end marker; all of its pixels are there."
        return PictureError("truncated", message, "Open and save it with another program, or use --allow-truncated.")
    return PictureError("truncated", message, _AGAIN)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if text.isprintable() else ascii(text))[:200] or type(error).__name__
