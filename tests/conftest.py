"""What every test may rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _caches_of_tests_are_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let no test read or fill the caches of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `photos` with two classes that are easily told apart, 24 pictures of each. Not to be changed."""
    folder = tmp_path_factory.mktemp("two_classes") / "photos"
    write_photos(folder)
    return folder


def write_photos(folder: Path, each: int = 24) -> None:
    """Write `folder/ants` (dark, reddish) and `folder/bees` (bright, bluish), PNG files of 32x32 px."""
    for label, tint in (("ants", (120, 60, 40)), ("bees", (120, 160, 220))):
        (folder / label).mkdir(parents=True)
        for number in range(each):
            noise = np.random.default_rng([len(label), tint[0], number, tint[2]]).integers(-40, 40, (32, 32, 3))
            pixels = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02d}.png")
