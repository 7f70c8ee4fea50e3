"""Pillow's readers of the allowed formats, with what this package does otherwise; and what there is of a cut file."""

from __future__ import annotations

import io

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tellapart.images.sniff import Format

__all__ = ["READERS", "Jpeg", "Tiff", "as_far_as_it_goes", "lacks_its_end_alone"]

_END = b"\xff\xd9"
_MOST_ZEROS = 2  # that a scan may end in; more were written over it, or fill up a copy that broke off
_NO_PICTURE = b"\x55\xaa" * 256  # bits that decode to something, wherever they are read; less may stay in one block
_COMPARED_PX = 512  # on a smaller scale the mean of each block is all that is left


class Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG file, whose resolution is not looked for."""

    # Pillow would parse all of the EXIF block for a resolution that nobody asks for, and warn where it is broken.
    def _read_dpi_from_exif(self) -> None:
        pass


class Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF file, as it is stored."""

    # Pillow would parse all tags a second time after decoding, warn again, and turn the picture. It is turned where all
    # others are; until then Pillow's size is the upright one and its pixels are not.
    def load_end(self) -> None:
        """Leave the picture as it is stored."""
        self._size = self.im.size


# The readers are called by name and not through Image.open, which would compare the size with a limit that belongs to
# the whole process (Image.MAX_IMAGE_PIXELS) and warn; the budget here is the policy's, and nobody else's is touched.
READERS: dict[Format, type[ImageFile.ImageFile]] = {
    "JPEG": Jpeg,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": Tiff,
}


def as_far_as_it_goes(picture: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Return a picture that failed to load because its file ends early, with the pixels there are, not decoded yet.

    What is missing is grey in a JPEG and black elsewhere. Raises OSError when nothing is there.
    """
    if isinstance(picture, Jpeg):
        assert picture.fp is not None
        picture.fp.seek(0)
        return Jpeg(io.BytesIO(picture.fp.read() + _END))
    if picture._im is None or picture._im.getbbox() is None:
        raise OSError("image file is truncated before its first pixel")
    picture.tile = []
    return picture


def lacks_its_end_alone(jpeg: bytes) -> bool:
    """Say whether all pixels of a JPEG are there, and its end marker alone is missing.

    Then what is put before a new end marker changes nothing.
    """
    if len(jpeg) - len(jpeg.rstrip(b"\0")) > _MOST_ZEROS:
        return False
    seen = []
    for more in (b"", _NO_PICTURE):
        try:
            picture = Jpeg(io.BytesIO(jpeg.removesuffix(b"\xff") + more + _END))
            picture.draft(None, (_COMPARED_PX, _COMPARED_PX))
            seen.append(picture.tobytes())
        except (OSError, SyntaxError, ValueError):
            return False
    return seen[0] == seen[1]
