"""A set of pictures with faults planted in it, and the list of what was planted where."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

__all__ = ["QUALITY", "generated", "plant", "wrong_labels"]

Planted = dict[str, list[str]]

_SHARE = 0.02  # of the pictures, for each fault of duplicates and leaks
_FEW = 0.004  # for each fault of quality


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.resize((max(16, int(picture.width * 0.8)), max(16, int(picture.height * 0.8))))


def _cropped(picture: Image.Image) -> Image.Image:
    return picture.crop((int(picture.width * 0.04), 0, picture.width, int(picture.height * 0.97)))


def _brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.15)


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _blank(picture: Image.Image) -> Image.Image:
    shade = picture.resize((1, 1)).getpixel((0, 0))  # one of its own, or all would be one picture in many classes
    return Image.new("RGB", picture.size, shade)


def _dark(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(0.06)


def _bright(picture: Image.Image) -> Image.Image:
    return Image.blend(picture, Image.new("RGB", picture.size, (255, 255, 255)), 0.93)


def _blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 20))


def _grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


def _framed(picture: Image.Image) -> Image.Image:
    framed = picture.copy()
    ImageDraw.Draw(framed).rectangle((0, 0, *framed.size), outline=(0, 0, 0), width=max(2, max(framed.size) // 9))
    return framed


def _odd_size(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width * 5, max(10, picture.height // 2)))


VERSIONS: tuple[Callable[[Image.Image], Image.Image], ...] = (_same, _scaled, _cropped, _brighter)
QUALITY: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blank": _blank,
    "dark": _dark,
    "bright": _bright,
    "blurred": _blurred,
    "grey": _grey,
    "framed": _framed,
    "odd_size": _odd_size,
}


def _saved(picture: Image.Image, path: Path, quality: int = 75) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    path.write_bytes(buffer.getvalue())
    return f"{path.parent.parent.name}/{path.parent.name}/{path.name}"


def plant(source: Path, folder: Path, seed: int = 0) -> Planted:
    """Copy `source/<class>/*` to `folder/{train,test}/<class>`, with faults; return the paths of each kind of fault.

    One picture in seven is test. Every fault is on a picture of its own.
    """
    draws = random.Random(seed)
    paths: list[Path] = []
    for label in sorted(path for path in source.iterdir() if path.is_dir()):
        for number, picture in enumerate(sorted(label.iterdir())):
            target = folder / ("test" if number % 7 == 0 else "train") / label.name / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, target)
            paths.append(target)
    draws.shuffle(paths)
    train = [path for path in paths if path.parent.parent.name == "train"]
    labels = sorted({path.parent.name for path in paths})
    count = max(4, int(_SHARE * len(paths)))
    found: Planted = {
        name: [] for name in ("duplicate", "near_duplicate", "split_leak", "identical_in_two_classes", "unreadable")
    }
    for number in range(count):
        path = train.pop()
        copy = path.with_name(f"copy-{number}{path.suffix}")
        shutil.copyfile(path, copy)
        found["duplicate"].append(str(copy.relative_to(folder)))
        path = train.pop()
        version = VERSIONS[number % len(VERSIONS)](Image.open(path).convert("RGB"))
        found["near_duplicate"].append(_saved(version, path.with_name(f"version-{number}.jpg"), 60))
        path = train.pop()
        leak = folder / "test" / path.parent.name / f"leak-{number}.jpg"
        if number % 2:
            shutil.copyfile(path, leak)
        else:
            _saved(Image.open(path).convert("RGB"), leak, 80)
        found["split_leak"].append(str(leak.relative_to(folder)))
    for number in range(count // 2):
        path = train.pop()
        other = draws.choice([label for label in labels if label != path.parent.name])
        twin = folder / "train" / other / f"twin-{number}{path.suffix}"
        shutil.copyfile(path, twin)
        found["identical_in_two_classes"].append(str(twin.relative_to(folder)))
        path = train.pop()
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        found["unreadable"].append(str(path.relative_to(folder)))
    for name, spoil in QUALITY.items():
        found[name] = []
        for _ in range(max(2, int(_FEW * len(paths)))):
            path = train.pop()
            spoilt = spoil(Image.open(path).convert("RGB"))
            path.unlink()
            found[name].append(_saved(spoilt, path.with_suffix(".jpg"), 85))
    return found


def wrong_labels(source: Path, folder: Path, share: float = 0.05, seed: int = 0) -> list[str]:
    """Copy `source/<class>/*` to `folder/<class>`, a share of them into another class; return their paths."""
    draws = random.Random(seed)
    pictures = [picture for label in sorted(source.iterdir()) if label.is_dir() for picture in sorted(label.iterdir())]
    labels = sorted({picture.parent.name for picture in pictures})
    moved = set(draws.sample(pictures, round(share * len(pictures))))
    wrong = []
    for number, picture in enumerate(pictures):
        label = picture.parent.name
        if picture in moved:
            label = draws.choice([other for other in labels if other != label])
        target = folder / label / f"{number:06d}{picture.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
        if picture in moved:
            wrong.append(str(target.relative_to(folder)))
    return wrong


def generated(folder: Path, each: int = 300, seed: int = 0) -> Path:
    """Write three classes of drawn shapes on noisy ground, 96 px JPEG, and return the folder."""
    random_ = np.random.default_rng(seed)
    for kind in ("disc", "square", "cross"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for _ in range(each):
            ground = random_.normal(random_.integers(60, 200, 3), 25, (12, 12, 3)).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(ground).resize((96, 96), Image.Resampling.BICUBIC)
            pen = ImageDraw.Draw(picture)
            x, y, r = (int(random_.integers(*ends)) for ends in ((30, 66), (30, 66), (14, 28)))
            colour = tuple(int(level) for level in random_.integers(0, 256, 3))
            if kind == "disc":
                pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
            elif kind == "square":
                pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
            else:
                pen.line((x - r, y - r, x + r, y + r), fill=colour, width=7)
                pen.line((x - r, y + r, x + r, y - r), fill=colour, width=7)
            picture.save(folder / kind / f"{random_.integers(1 << 40):012x}.jpg", quality=88)
    return folder
