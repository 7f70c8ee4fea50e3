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

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tellapart.errors import PictureError
from tellapart.images import structure
from tellapart.images.preprocess import DecodePolicy
from tellapart.images.sniff import FORMATS, HEAD_BYTES, Format, sniff, stranger

__all__ = ["Header", "opened", "read_header", "shown_name"]


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself. `width` and `height` are in pixels, after EXIF orientation (1 to 8) is applied.

    `mode` is Pillow's name of the pixels as stored. `sixteen_bit` means 16-bit grey, to which
    `DecodePolicy.sixteen_bit_scale` applies. `grey` means that the mode has no colour. `num_frames` is None where
    there are several and counting them would mean reading the file through. `notes` are stable names of oddities that
    do not keep the picture from being used: `extension_lies`, `trailing_bytes`, `several_frames`,
    `sixteen_bit_colour` (read with 8 bits a channel), `icc_profile_ignored`.
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


class _Jpeg(JpegImagePlugin.JpegImageFile):
    # Pillow would parse all of the EXIF block for a resolution that nobody asks for, and warn where it is broken.
    def _read_dpi_from_exif(self) -> None:
        pass


class _Tiff(TiffImagePlugin.TiffImageFile):
    # Pillow would parse all tags a second time after decoding, warn again, and turn the picture. It is turned where all
    # others are; until then Pillow's size is the upright one and its pixels are not.
    def load_end(self) -> None:
        self._size = self.im.size


# The readers are called by name and not through Image.open, which would compare the size with a limit that belongs to
# the whole process (Image.MAX_IMAGE_PIXELS) and warn; the budget here is the policy's, and nobody else's is touched.
_READERS: dict[Format, type[ImageFile.ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": _Tiff,
}
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
_REFUSED_MODES = {"F": "floating-point", "I": "32-bit or signed integer"}
_CAN_WARN: frozenset[Format] = frozenset({"TIFF", "GIF"})
_AGAIN = "Fetch the picture again, or remove the file."

_quiet_lock = threading.Lock()


def read_header(source: Path | bytes, policy: DecodePolicy = DecodePolicy()) -> Header:  # noqa: B008 (frozen)
    """Return what a picture's file (a path, or its bytes) says of itself; nothing is decoded.

    Raises PictureError with the codes of `decode` that a header can tell: every one but damage in the pixels.
    """
    with opened(source, policy) as (_, header, file):
        notes = list(header.notes)
        if structure.has_trailing_bytes(file, header.format):
            notes.append("trailing_bytes")
        num_frames = structure.tiff_pages(file) if header.format == "TIFF" else header.num_frames
        if num_frames != 1:
            notes.append("several_frames")
        return dataclasses.replace(header, num_frames=num_frames, notes=tuple(notes))


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
            header = _header(picture, format, source)
            _check(header, policy, name)
            yield picture, header, file
        except PictureError:
            raise
        except Exception as error:
            raise _refusal(error, name, file, format) from None


def _read(format: Format, file: BinaryIO) -> ImageFile.ImageFile:
    try:
        return _READERS[format](file)
    except (ValueError, SyntaxError):
        # Pillow refuses a PNG for a colour profile that is broken, or larger than 1 MB; here profiles do not matter.
        file.seek(0)
        mended = structure.png_without_profile(file.read()) if format == "PNG" else None
        if mended is None:
            raise
        return PngImagePlugin.PngImageFile(io.BytesIO(mended))


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
            raise PictureError("unreadable", f"{name} is not a regular file.", "Give a picture file.")
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


def _header(picture: ImageFile.ImageFile, format: Format, source: Path | bytes) -> Header:
    width, height = picture.size
    if format == "TIFF":
        # Here Pillow's size is the upright one already.
        assert isinstance(picture, _Tiff)
        tag = picture.tag_v2.get(0x0112, 1)
        orientation = tag if tag in range(1, 9) else 1
    else:
        orientation = structure.exif_orientation(picture.info.get("exif"))
        if orientation >= 5:
            width, height = height, width
    notes = []
    if isinstance(source, Path) and _SUFFIXES.get(source.suffix.lower(), format) != format:
        notes.append("extension_lies")
    if picture.mode not in _SIXTEEN_BIT_MODES and ";16" in str(picture.tile[0].args if picture.tile else ""):
        notes.append("sixteen_bit_colour")
    if picture.info.get("icc_profile"):
        notes.append("icc_profile_ignored")
    if format == "GIF":
        num_frames = None if getattr(picture, "is_animated", False) else 1
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
        orientation=orientation,
        notes=tuple(notes),
    )


def _check(header: Header, policy: DecodePolicy, name: str) -> None:
    width, height = header.width, header.height
    size = f"{width}x{height} pixels"
    if header.mode in _REFUSED_MODES:
        raise PictureError(
            "unsupported_format",
            f"{name} has {_REFUSED_MODES[header.mode]} levels, whose range is unknown; allowed are 1 to 16 bits.",
            "Convert it to an 8-bit or 16-bit picture.",
        )
    if min(width, height) < policy.min_side_px:
        raise PictureError(
            "too_small",
            f"{name} is {size}; the shorter side must have at least {policy.min_side_px}.",
            "Remove it, or lower the least side.",
        )
    if width * height > policy.max_pixels:
        raise PictureError(
            "too_many_pixels",
            f"{name} is {size}, {width * height:,} in all; the most is {policy.max_pixels:,}.",
            "Scale it down, or raise max-pixels.",
        )
    if max(width, height) > policy.max_aspect * min(width, height):
        raise PictureError(
            "extreme_aspect",
            f"{name} is {size}; the longer side may be at most {policy.max_aspect:g} times the shorter.",
            "Crop it, or remove it.",
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
        return PictureError("truncated", f"{name} is a {format} file that ends early: a part of it is missing.", _AGAIN)
    return PictureError("corrupt", f"{name} is a damaged {format} file ({_one_line(error)}).", _AGAIN)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if text.isprintable() else ascii(text))[:200] or type(error).__name__
