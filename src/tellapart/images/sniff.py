"""What a file is, from its first bytes: one of the allowed formats, or what to say of it instead."""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple, get_args

__all__ = ["FORMATS", "HEAD_BYTES", "Format", "Stranger", "sniff", "stranger"]

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
FORMATS: tuple[Format, ...] = get_args(Format)

HEAD_BYTES = 4096

_CONVERT = "Convert it to JPEG or PNG."
_AGAIN = "Fetch the picture again, or remove the file."


class Stranger(NamedTuple):
    """What a file is that is not of an allowed format: the code, words that follow "is", and the next step."""

    code: Literal["empty_file", "not_an_image", "unsupported_format"]
    words: str
    next: str


# (offset, bytes, what it is): other picture and document formats. None of their readers is ever started.
_OTHER_FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"FUJIFILMCCD-RAW", "a camera raw file"),
    (0, b"IIU\x00", "a camera raw file"),
    (0, b"IIRO", "a camera raw file"),
    (0, b"IIRS", "a camera raw file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"DDS ", "a DDS texture"),
    (128, b"DICM", "a DICOM file"),
    (0, b"P1\n", "a PBM picture"),
    (0, b"P2\n", "a PGM picture"),
    (0, b"P3\n", "a PPM picture"),
    (0, b"P4\n", "a PBM picture"),
    (0, b"P5\n", "a PGM picture"),
    (0, b"P6\n", "a PPM picture"),
)
_NOT_IMAGES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "a zip archive"),  # an empty one
    (0, b"PK\x07\x08", "a zip archive"),  # one of several parts
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)
_BRANDS = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"hevc": "a HEIC picture",
    b"heim": "a HEIC picture",
    b"heis": "a HEIC picture",
    b"mif1": "a HEIF picture",
    b"msf1": "a HEIF picture",
    b"avif": "an AVIF picture",
    b"avis": "an AVIF picture",
    b"crx ": "a camera raw file",
}
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def sniff(head: bytes) -> Format | None:
    """Return the allowed format that `head` (the first bytes of a file) begins, or None. The name never matters."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and head[8:10] != b"CR":
        return "TIFF"
    # "BM" alone begins many a text, so the size of the second header must be one that exists.
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_BYTES:
        return "BMP"
    return None


def stranger(head: bytes) -> Stranger:
    """Return what to say of a file whose first bytes, `head`, begin none of the allowed formats."""
    if not head:
        return Stranger("empty_file", "empty (0 bytes)", _AGAIN)
    if head.startswith((b"II*\0", b"MM\0*")):
        return Stranger("unsupported_format", "a camera raw file", _CONVERT)
    if head[4:8] == b"ftyp":
        if words := _BRANDS.get(head[8:12]):
            return Stranger("unsupported_format", words, _CONVERT)
        return Stranger("not_an_image", "a video", "Extract pictures from it, or remove the file.")
    for offset, magic, words in _OTHER_FORMATS:
        if head[offset:].startswith(magic):
            return Stranger("unsupported_format", words, _CONVERT)
    for offset, magic, words in _NOT_IMAGES:
        if head[offset:].startswith(magic):
            return Stranger("not_an_image", words, "Unpack or remove the file.")
    if not head.strip(b"\0"):
        return Stranger("not_an_image", "nothing but zero bytes", _AGAIN)
    return _text(head) or Stranger("not_an_image", f"of no known format (it begins with {head[:8].hex(' ')})", _AGAIN)


def _text(head: bytes) -> Stranger | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", errors="ignore")
    else:
        text = head.decode("utf-8-sig", errors="replace")
    text = text.lstrip().lower()
    if text.startswith("version https://git-lfs"):
        return Stranger("not_an_image", "a Git LFS pointer, not the picture itself", "Run git lfs pull.")
    if "<svg" in text and text.startswith(("<svg", "<?xml", "<!--", "<!doctype svg")):
        return Stranger("unsupported_format", "an SVG drawing", _CONVERT)
    if text.startswith(("<!doctype html", "<html", "<head", "<body")) or ("<html" in text and text.startswith("<")):
        return Stranger("not_an_image", "an HTML page", _AGAIN)
    if text.startswith(("<?xml", "<!doctype")):
        return Stranger("not_an_image", "an XML document", _AGAIN)
    if text.startswith(("{", "[")) and "�" not in text:
        return Stranger("not_an_image", "JSON text", _AGAIN)
    if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text.rstrip("�")):
        return Stranger("not_an_image", "plain text", _AGAIN)
    return None
