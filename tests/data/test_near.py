"""Copies that were saved anew, cropped, rescaled or relit are found; pictures that are merely alike are not."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from tellapart.data import near as near_module
from tellapart.data.audit import audit
from tellapart.data.audit.gather import gather_evidence
from tellapart.data.candidates import candidates
from tellapart.data.digits import write_digits
from tellapart.data.facts import PictureFacts, gather
from tellapart.data.near import Near, near_duplicates
from tellapart.data.policy import decode_policy
from tellapart.data.scan import scan
from tellapart.events import Steps
from tellapart.recipe import Recipe

from .conftest import Scan, codes

Pixels = NDArray[np.uint8]


def result(steps: Steps[Any]) -> Any:
    """Return what the steps come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def found(files: Sequence[Path], cache: Path, threads: int = 2) -> Near:
    """Return the near-duplicates among files."""
    policy = decode_policy(Recipe())
    facts: list[Any] = []
    paths = [str(file)[1:] for file in files]
    result(gather(Path("/"), paths, policy, cache, threads, lambda fact, _: facts.append(fact)))
    assert all(isinstance(fact, PictureFacts) for fact in facts)
    names = [(fact.pixels or bytes.fromhex(fact.sha256)).hex() for fact in facts]
    near: Near = result(near_duplicates(files, names, facts, policy, cache, threads))
    return near


def saved(picture: Image.Image, format: str, **how: Any) -> bytes:
    """Return a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **how)
    return buffer.getvalue()


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    """Return a picture of another size."""
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Return a picture without these shares of its sides."""
    width, height = picture.size
    return picture.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def turned(picture: Image.Image) -> bytes:
    """Return a picture that lies on its side, with an EXIF tag that says so."""
    exif = Image.Exif()
    exif[274] = 6
    return saved(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=85, exif=exif)


def curve(picture: Image.Image, gamma: float) -> Image.Image:
    """Return a picture with its levels bent."""
    return picture.point([round(255 * (level / 255) ** gamma) for level in range(256)] * 3)


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG 50": lambda one: saved(one, "JPEG", quality=50),
    "JPEG 95": lambda one: saved(one, "JPEG", quality=95),
    "PNG": lambda one: saved(scaled(one, 0.9), "PNG"),
    "WebP": lambda one: saved(one, "WEBP", quality=60),
    "half": lambda one: saved(scaled(one, 0.5), "JPEG", quality=85),
    "double": lambda one: saved(scaled(one, 2.0), "JPEG", quality=85),
    "less 5 % left": lambda one: saved(cropped(one, 0.05, 0, 0, 0), "JPEG", quality=88),
    "less 5 % bottom": lambda one: saved(cropped(one, 0, 0, 0, 0.05), "JPEG", quality=88),
    "less 5 % each side": lambda one: saved(cropped(one, 0.05, 0.05, 0.05, 0.05), "JPEG", quality=88),
    "less 5 % in all": lambda one: saved(cropped(one, 0.01, 0.02, 0.015, 0.005), "JPEG", quality=88),
    "darker": lambda one: saved(ImageEnhance.Brightness(one).enhance(0.7), "JPEG", quality=88),
    "brighter": lambda one: saved(ImageEnhance.Brightness(one).enhance(1.25), "JPEG", quality=88),
    "more contrast": lambda one: saved(ImageEnhance.Contrast(one).enhance(1.3), "JPEG", quality=88),
    "gamma": lambda one: saved(curve(one, 1.4), "JPEG", quality=88),
    "turned by EXIF": turned,
}


def planted(folder: Path, originals: Sequence[bytes]) -> tuple[list[Path], dict[frozenset[int], str]]:
    """Write originals and a copy of every second one, the kinds in turn; return files and the kind of each pair."""
    files, pairs = [], {}
    for number, content in enumerate(originals):
        files.append(folder / f"{number}.original")
        files[-1].write_bytes(content)
    for number, content in enumerate(originals[::2]):
        kind = list(COPIES)[number % len(COPIES)]
        pairs[frozenset((2 * number, len(files)))] = kind
        with Image.open(io.BytesIO(content)) as opened:
            copy = COPIES[kind](opened.convert("RGB"))
        files.append(folder / f"{number}.copy")
        files[-1].write_bytes(copy)
    return files, pairs


def check_recall(near: Near, pairs: dict[frozenset[int], str], strangers: int) -> None:
    """Nine of ten copies are found, of all and of each kind (one may be missed), and at most so many strangers."""
    seen = {frozenset(pair[:2]) for pair in near.pairs}
    missed = Counter(kind for pair, kind in pairs.items() if pair not in seen)
    total = Counter(pairs.values())
    assert missed.total() <= 0.1 * len(pairs), missed
    assert all(count <= max(1, 0.1 * total[kind]) for kind, count in missed.items()), missed
    assert len(seen - set(pairs)) <= strangers


def scene(seed: int) -> bytes:
    """Return a made-up picture: a soft ground with shapes on it."""
    random = np.random.default_rng(seed)
    ground = Image.fromarray(random.integers(40, 216, (4, 5, 3)).astype(np.uint8))
    picture = ground.resize((160, 120), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(9):
        x, y, wide, high = random.integers((0, 0, 8, 8), (150, 110, 60, 60)).tolist()
        draw.ellipse((x, y, x + wide, y + high), fill=tuple(int(level) for level in random.integers(0, 256, 3)))
    return saved(picture, "PNG")


def texture(seed: int) -> bytes:
    """Return a flat texture: grain, cloth, stripes or a chequered floor, each much like the others of its kind."""
    random = np.random.default_rng(seed)
    grain = random.normal(size=(96, 96))
    y, x = np.mgrid[:96, :96]
    pattern = (
        grain,
        np.cumsum(grain, axis=0) / 8,
        np.sin(x * np.pi / 6 + random.uniform(0, 2 * np.pi)) + 0.1 * grain,
        (x // 8 + y // 8) % 2 + 0.05 * grain,
    )[seed % 4]
    pattern = (pattern - pattern.mean()) / pattern.std()
    levels = np.array([150, 140, 120]) + 18 * pattern[..., None]
    return saved(Image.fromarray(levels.clip(0, 255).astype(np.uint8)), "PNG")


def test_planted_copies_of_made_up_pictures_are_found(tmp_path: Path) -> None:
    files, pairs = planted(tmp_path, [scene(seed) for seed in range(300)])
    check_recall(found(files, tmp_path / "cache"), pairs, strangers=0)


def test_planted_copies_of_photos_are_found(tmp_path: Path, hymenoptera: list[bytes]) -> None:
    files, pairs = planted(tmp_path, [content for content in hymenoptera if content[:2] == b"\xff\xd8"])
    check_recall(found(files, tmp_path / "cache"), pairs, strangers=0)


def test_planted_copies_of_photos_that_are_much_alike_are_found(tmp_path: Path, clothing: list[bytes]) -> None:
    files, pairs = planted(tmp_path, clothing)
    check_recall(found(files, tmp_path / "cache"), pairs, strangers=0)


def test_digits_stay_ungrouped(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits")
    near = found(sorted((tmp_path / "digits").rglob("*.png")), tmp_path / "cache")
    assert near.candidates > 1000
    assert near.pairs == ()


def test_flat_textures_stay_ungrouped(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.png" for seed in range(240)]
    for seed, file in enumerate(files):
        file.write_bytes(texture(seed))
    assert found(files, tmp_path / "cache").pairs == ()


def test_what_is_found_depends_on_neither_order_nor_threads_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = planted(tmp_path, [scene(seed) for seed in range(60)])
    one = found(files, tmp_path / "one", threads=1)
    shuffled = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    other = found(shuffled, tmp_path / "other", threads=3)

    def named(near: Near, order: Sequence[Path]) -> set[tuple[frozenset[Path], float]]:
        return {(frozenset((order[a], order[b])), left) for a, b, left in near.pairs}

    assert named(one, files) == named(other, shuffled)
    assert (one.candidates, one.threshold) == (other.candidates, other.threshold)
    assert len(one.pairs) > 20
    assert all(a < b for a, b, _ in one.pairs)
    monkeypatch.setattr(near_module, "candidates", None)
    assert found(files, tmp_path / "one") == one


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint64, st.tuples(st.integers(1, 70), st.just(7)), elements=st.integers(0, 2**64 - 1)), st.data())
def test_candidates_are_those_that_a_plain_loop_finds(hashes: NDArray[np.uint64], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 12))):
        one, other = (data.draw(st.integers(0, len(hashes) - 1)) for _ in range(2))
        window, flips = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 2**64 - 1))
        hashes[one, window] = hashes[other, 0] ^ np.uint64(flips & 0x0101010101010101)
    expected = set()
    for one in range(len(hashes)):
        near = [other for other in range(len(hashes)) if other != one]
        near = [o for o in near if min((int(h) ^ int(hashes[o, 0])).bit_count() for h in hashes[one]) <= 8]
        expected |= {frozenset((one, other)) for other in near}
    pairs = result(candidates(hashes, 1))
    assert len(pairs) == len({frozenset(pair) for pair in pairs.tolist()})
    if all(sum(member in pair for pair in expected) <= 8 for member in range(len(hashes))):
        assert {frozenset(pair) for pair in pairs.tolist()} == expected
    assert {frozenset(pair) for pair in pairs.tolist()} <= expected


def test_eight_bits_apart_is_a_candidate_and_nine_is_not() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 1 << 62, (40, 7), dtype=np.uint64)
    hashes[7, 5] = hashes[30, 0] ^ np.uint64(0xFF)
    hashes[8, 5] = hashes[31, 0] ^ np.uint64(0x1FF)
    assert result(candidates(hashes, 1)).tolist() == [[7, 30]]


def test_thousands_that_look_alike_are_compared_with_few_each() -> None:
    random = np.random.default_rng(0)
    hashes = np.full((3000, 7), 12345, dtype=np.uint64) ^ (
        np.uint64(1) << random.integers(0, 9, (3000, 7), dtype=np.uint64)
    )
    pairs = result(candidates(hashes, 2))
    assert 3000 < len(pairs) <= 16 * 3000


def write_set(root: Path, places: dict[str, bytes]) -> Path:
    """Write pictures at their places."""
    for place, content in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(content)
    return root


def again(content: bytes) -> bytes:
    """Return a picture saved anew, smaller."""
    return COPIES["half"](Image.open(io.BytesIO(content)).convert("RGB"))


def test_case_69_copies_share_a_split_and_say_so(tmp_path: Path, scan_of: Scan) -> None:
    places = {f"{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(60)}
    places |= {f"{'ab'[n % 2]}/{n:02d}_copy.jpg": again(scene(n)) for n in range(9)}
    for seed in range(5):
        manifest = scan_of(write_set(tmp_path / "set", places), seed=seed, val=0.3, test=0.3)
        rows = {row.path[:4]: row for row in manifest.rows if "copy" not in row.path}
        for row in manifest.rows:
            assert (row.split, row.group) == (rows[row.path[:4]].split, rows[row.path[:4]].group)
    told: Any = manifest.facts["near_duplicates"]
    assert (told["confirmed"], told["grouped"], told["two_splits"], told["two_classes"]) == (9, 18, 0, 0)
    assert {(one, other) for one, other, _ in told["pairs"]} == {
        (f"{'ab'[n % 2]}/{n:02d}.png", f"{'ab'[n % 2]}/{n:02d}_copy.jpg") for n in range(9)
    }
    assert not [note for note in manifest.notes if "ame pictures" in note]
    apart = scan_of(tmp_path / "set", near_duplicates="off")
    assert len({row.group for row in apart.rows}) == 69
    assert "near_duplicates" not in apart.facts


def test_case_69_copies_across_given_splits_are_kept_and_told(tmp_path: Path, scan_of: Scan) -> None:
    places = {f"train/{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(40)}
    places |= {f"test/{'ab'[n % 2]}/{n:02d}.png": scene(100 + n) for n in range(10)}
    places |= {f"test/{'ab'[n % 2]}/leak{n}.jpg": again(scene(n)) for n in range(5)}
    manifest = scan_of(write_set(tmp_path / "set", places), val=0.2)
    assert {row.split for row in manifest.rows if row.path.startswith("test")} == {"test"}
    notes = " ".join(manifest.notes)
    assert "5 picture(s) of the test split are in train or val too" in notes
    assert "Nearly the same pictures are in two splits: " in notes
    assert "and 2 pairs more" in notes
    told: Any = manifest.facts["near_duplicates"]
    assert told["two_splits"] == 5
    assert all(("leak" in one) != ("leak" in other) for one, other, _ in told["pairs"][:5])


def test_case_42_nearly_the_same_in_two_classes_is_used_and_told(tmp_path: Path, scan_of: Scan) -> None:
    places = {f"{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(40)} | {"a/odd.jpg": again(scene(1))}
    manifest = scan_of(write_set(tmp_path / "set", places))
    assert codes(manifest) == {}
    assert any("in two classes: a/odd.jpg and b/01.png" in note for note in manifest.notes)
    assert len({row.group for row in manifest.rows if row.path in ("a/odd.jpg", "b/01.png")}) == 1


def test_a_class_full_of_pairs_is_left_alone_unless_asked_for(tmp_path: Path, scan_of: Scan) -> None:
    places = {f"{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(80)}
    places |= {f"a/{n:02d}_copy.jpg": again(scene(n)) for n in range(0, 40, 2)} | {"b/copy.jpg": again(scene(1))}
    manifest = scan_of(write_set(tmp_path / "set", places))
    assert len({row.group for row in manifest.rows}) == len(places) - 1
    assert any("a (40 of 60)" in note and "--near-duplicates on" in note for note in manifest.notes)
    forced = scan_of(tmp_path / "set", near_duplicates="on")
    assert len({row.group for row in forced.rows}) == 80


def test_check_names_near_duplicates_and_near_leaks(tmp_path: Path) -> None:
    places = {f"train/{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(40)}
    places |= {f"test/{'ab'[n % 2]}/{n:02d}.png": scene(100 + n) for n in range(10)}
    places |= {f"test/{'ab'[n % 2]}/leak{n}.jpg": again(scene(n)) for n in range(3)} | {
        "test/b/odd.jpg": again(scene(30))
    }
    root = write_set(tmp_path / "set", places)
    manifest = result(scan(root, Recipe(), tmp_path / "cache", "check"))
    evidence = result(gather_evidence(manifest, decode_policy(Recipe()), tmp_path / "cache", 2))
    findings = {finding.check: {row.path for row in finding.rows} for finding in audit(evidence) if finding is not None}
    copies = {f"{n:02d}.png" for n in range(3)} | {f"leak{n}.jpg" for n in range(3)} | {"30.png", "odd.jpg"}
    assert {Path(path).name for path in findings["near_duplicate"]} == copies
    assert {Path(path).name for path in findings["split_leak"]} == {f"leak{n}.jpg" for n in range(3)} | {"odd.jpg"}
    assert {Path(path).name for path in findings["identical_in_two_classes"]} == {"30.png", "odd.jpg"}


def test_new_copies_of_old_pictures_keep_their_split(tmp_path: Path, scan_of: Scan) -> None:
    root = write_set(tmp_path / "set", {f"{'ab'[n % 2]}/{n:02d}.png": scene(n) for n in range(40)})
    first = scan_of(root)
    first.write(tmp_path / "manifest.jsonl")
    old = {row.path: row.split for row in first.rows}
    write_set(root, {f"{'ab'[n % 2]}/{n:02d}_new.jpg": again(scene(n)) for n in range(8)})
    second = scan_of(root, previous=str(tmp_path / "manifest.jsonl"))
    for row in second.rows:
        assert row.split == old[row.path.replace("_new.jpg", ".png")]
