"""An archive is read like the folder in it, once; one that is not plain pictures in folders is refused whole."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data.archive import Unpacked, is_archive, unpacked
from tellapart.data.archive_members import Limits
from tellapart.driving import finish
from tellapart.errors import DataError
from tellapart.locks import Holder, Lock, claim

from .conftest import Scan, codes, labels, write_classes, write_picture

TAR_KINDS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def pack(folder: Path, archive: Path, top: str = "") -> Path:
    """Put all of a folder into an archive, below `top`."""
    paths = sorted(folder.rglob("*"))
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in paths:
                packed.write(path, Path(top) / path.relative_to(folder))
    else:
        with tarfile.open(archive, TAR_KINDS["".join(archive.suffixes)]) as packed:  # type: ignore[call-overload]
            for path in paths:
                packed.add(path, Path(top) / path.relative_to(folder), recursive=False)
    return archive


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def tarred(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                packed.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                packed.addfile(info, io.BytesIO(member[1]))
    return path


def opened(archive: Path, cache: Path, **limits: int) -> Unpacked:
    return finish(unpacked(archive, cache, Limits(**limits) if limits else None))


def refused(archive: Path, cache: Path, **limits: int) -> DataError:
    """Return why an archive is refused; nothing of it is left in the cache."""
    with pytest.raises(DataError) as caught:
        opened(archive, cache, **limits)
    assert [path for path in cache.rglob("*") if path != cache / "archives"] == []
    assert caught.value.next
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("top", ["", "photos", "a/b"])
@pytest.mark.parametrize("suffix", [".zip", *TAR_KINDS])
def test_any_layout_in_any_archive_gives_the_rows_of_the_folder(
    tmp_path: Path, scan_of: Scan, suffix: str, top: str
) -> None:
    root = write_classes(tmp_path / "set", {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2})
    manifest = scan_of(pack(root, tmp_path / f"photos{suffix}", top))
    assert manifest.rows == scan_of(root).rows
    assert manifest.source == "/".join(filter(None, [str(tmp_path / f"photos{suffix}"), top]))
    assert all(manifest.file(row).is_file() for row in manifest.rows)


def test_an_archive_s_table_says_what_is_in_it(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"images": 6})
    (root / "labels.csv").write_text("file,class\n" + "".join(f"images/{n:03d}.png,{'ab'[n % 2]}\n" for n in range(6)))
    (root / "about.csv").write_text("colour,size\nred,3\n")
    manifest = scan_of(pack(root, tmp_path / "set.zip", "top"))
    assert set(labels(manifest).values()) == {"a", "b"}
    (root / "more.csv").write_text("file,class\nimages/000.png,a\n")
    with pytest.raises(DataError, match="several tables"):
        scan_of(pack(root, tmp_path / "two.zip"))


def test_a_table_in_an_archive_that_cannot_be_used_says_why(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {".": 6})
    (root / "labels.csv").write_text("file,clas\n")
    with pytest.raises(DataError, match="no column for the label") as caught:
        scan_of(pack(root, tmp_path / "set.zip"))
    assert caught.value.code == "unknown_column"


def test_what_is_said_of_an_archive_names_it_and_not_the_cache(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3})
    with pytest.raises(DataError) as caught:
        scan_of(pack(root, tmp_path / "set.zip"))
    assert ".cache-of-test" not in str(caught.value)
    flat = write_classes(tmp_path / "flat", {".": 3})
    with pytest.raises(DataError) as caught:
        scan_of(pack(flat, tmp_path / "flat.zip"))
    assert str(tmp_path / "flat.zip") in str(caught.value)
    assert ".cache-of-test" not in str(caught.value)


def test_an_archive_is_unpacked_once_and_again_when_a_part_went(tmp_path: Path) -> None:
    archive = pack(write_classes(tmp_path / "set", {"cat": 2, "dog": 2}), tmp_path / "set.zip")
    place = opened(archive, tmp_path / "cache").folder
    made = (place / "cat/000.png").stat().st_ino
    moved = shutil.copy(archive, tmp_path / "other.zip")
    assert opened(Path(moved), tmp_path / "cache").folder == place
    assert (place / "cat/000.png").stat().st_ino == made
    (place / "dog/001.png").unlink()
    opened(archive, tmp_path / "cache")
    assert (place / "dog/001.png").is_file()
    assert [path.name for path in (tmp_path / "cache/archives").iterdir()] == [place.parent.name]


def test_what_a_killed_process_left_is_tidied_up(tmp_path: Path) -> None:
    archive = pack(write_classes(tmp_path / "set", {"cat": 2, "dog": 2}), tmp_path / "set.zip")
    place = opened(archive, tmp_path / "cache").folder.parent
    shutil.copytree(place, place.with_name(f".{place.name}.dead"))
    place.with_name(f"{place.name}.lock").write_text("{}")
    shutil.rmtree(place)
    opened(archive, tmp_path / "cache")
    assert list(place.parent.iterdir()) == [place]


def test_another_process_that_unpacks_the_same_is_waited_for(tmp_path: Path) -> None:
    archive = pack(write_classes(tmp_path / "set", {"cat": 2, "dog": 2}), tmp_path / "set.zip")
    place = opened(archive, tmp_path / "elsewhere").folder.parent
    (tmp_path / "cache/archives").mkdir(parents=True)
    lock = claim(tmp_path / f"cache/archives/{place.name}.lock")
    assert isinstance(lock, Lock)
    steps = unpacked(archive, tmp_path / "cache")
    said = [next(steps).stage for _ in range(3)]  # type: ignore[union-attr]
    assert said[-1] == "wait for another process to unpack"
    shutil.copytree(place, tmp_path / "cache/archives" / place.name)
    lock.release()
    assert finish(steps).folder.parent.name == place.name


def link(name: str, kind: bytes = tarfile.SYMTYPE, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("cat/1.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


UNFIT_NAMES = [
    "../evil.png",
    "cat/../../evil.png",
    "/etc/evil.png",
    "C:/evil.png",
    "c:evil.png",
    "cat\\..\\evil.png",
    "\\\\h\\s\\e.png",
]


@pytest.mark.parametrize("name", UNFIT_NAMES)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_out_refuse_the_whole_archive(
    tmp_path: Path, name: str, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = make(tmp_path / f"a{'.zip' if make is zipped else '.tar'}", ("cat/1.png", b"x"), (name, b"x"))
    assert refused(archive, tmp_path / "cache").code == "archive_name"
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_anything_but_files_and_folders_is_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "a.tar", ("cat/1.png", b"x"), link("cat/2.png", kind), ("cat/2.png/x", b"x"))
    assert refused(archive, tmp_path / "cache").code == "archive_link"


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", (zip_link(), b"/etc/passwd"))
    assert refused(archive, tmp_path / "cache").code == "archive_link"


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.png", "cat/1.png"),
        ("cat/1.png", "./cat//1.png"),
        ("cat/1.png", "cat/1.PNG"),
        ("cat/1.png", "Cat/2.png"),
        ("caf\u00e9/1.png", "cafe\u0301/2.png"),
        ("cat", "cat/1.png"),
        ("cat/1.png", "cat"),
    ],
)
@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_that_some_disk_holds_to_be_one_are_refused(
    tmp_path: Path, make: Callable[..., Path], names: tuple[str, str]
) -> None:
    archive = make(tmp_path / f"a{'.zip' if make is zipped else '.tar'}", *((name, b"x") for name in names))
    assert refused(archive, tmp_path / "cache").code == "archive_duplicate"


def test_a_bomb_is_refused_while_it_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("cat/1.png", bytes(20_000_000)))
    assert archive.stat().st_size < 30_000
    assert refused(archive, tmp_path / "cache").code == "archive_too_large"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("cat/1.png")
        info.size = 20_000_000
        packed.addfile(info, io.BytesIO(bytes(info.size)))
    assert refused(tmp_path / "a.tar.gz", tmp_path / "cache").code == "archive_too_large"


def test_headers_are_not_believed(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("cat/1.png", bytes(20_000_000)))
    raw = archive.read_bytes()
    assert raw.count(struct.pack("<I", 20_000_000)) == 2
    archive.write_bytes(raw.replace(struct.pack("<I", 20_000_000), struct.pack("<I", 100)))
    assert refused(archive, tmp_path / "cache").code == "damaged_archive"


def test_bytes_and_members_are_bounded(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", *((f"cat/{n}.png", os.urandom(100)) for n in range(30)))
    assert refused(archive, tmp_path / "cache", bytes=2_000).code == "archive_too_large"
    assert refused(archive, tmp_path / "cache", members=29).code == "archive_too_large"
    assert refused(archive, tmp_path / "cache", members=3).code == "archive_too_large"
    opened(archive, tmp_path / "cache", members=30, bytes=3_000)


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("cat/1.png", os.urandom(50)), ("cat/2.png", os.urandom(50)))
    raw = bytearray(archive.read_bytes())
    second = raw.rfind(b"PK\x01\x02")
    raw[second + 42 : second + 46] = struct.pack("<I", 0)  # both begin where the first does
    archive.write_bytes(raw)
    assert refused(archive, tmp_path / "cache").code == "archive_overlap"


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("cat/1.png", b"x"))
    raw = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.find(mark) + offset] |= 1
    archive.write_bytes(raw)
    error = refused(archive, tmp_path / "cache")
    assert error.code == "encrypted_archive"
    assert "password" in error.next


def test_a_long_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 5_000_000
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        packed.addfile(info, io.BytesIO(bytes(info.size)))
    assert refused(tmp_path / "a.tar.gz", tmp_path / "cache").code == "damaged_archive"


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_an_archive_that_ends_early_is_refused(tmp_path: Path, suffix: str) -> None:
    archive = pack(write_classes(tmp_path / "set", {"cat": 6, "dog": 6}), tmp_path / f"a{suffix}")
    whole = archive.read_bytes()
    for share in (0.0, 0.1, 0.37, 0.5, 0.75, 0.98):
        archive.write_bytes(whole[: int(share * (len(whole) - (10240 if suffix == ".tar" else 0)))])
        assert refused(archive, tmp_path / "cache").code == "damaged_archive"


def test_a_tar_with_a_broken_header_in_its_middle_is_not_half_read(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar", *((f"cat/{n}.png", b"x" * 100) for n in range(6)))
    raw = bytearray(archive.read_bytes())
    raw[3 * 1024 + 5] ^= 1
    archive.write_bytes(raw)
    assert refused(archive, tmp_path / "cache").code == "damaged_archive"


def test_an_archive_inside_an_archive_is_left_out_with_its_reason(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    pack(root / "cat", root / "dog" / "inner.zip")
    assert codes(scan_of(pack(root, tmp_path / "set.tar"))) == {"dog/inner.zip": "not_an_image"}


def test_names_are_read_as_they_were_written(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"caf\u00e9": 3, "th\u00e9": 3})
    pack(root, tmp_path / "set.zip")
    raw = bytearray((tmp_path / "set.zip").read_bytes())
    at = -1
    for mark, offset in ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):  # UTF-8 that does not say so, as macOS writes it
        while (at := raw.find(mark, at + 1)) >= 0:
            raw[at + offset] &= ~0x08
    (tmp_path / "mac.zip").write_bytes(raw)
    assert scan_of(tmp_path / "mac.zip").classes == ("caf\u00e9", "th\u00e9")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_an_archive_that_is_whole_and_holds_no_files_is_told(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "set").mkdir()
    for _ in range(2):  # nothing, then a folder without files
        archive = pack(tmp_path / "set", tmp_path / f"a{suffix}")
        error = refused(archive, tmp_path / "cache")
        assert (error.code, error.message) == ("empty_archive", f"The archive {archive} holds no files.")
        (tmp_path / "set" / "cat").mkdir(exist_ok=True)


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar.gz", "a.tar"):
        (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
        assert is_archive(tmp_path / name)
        assert refused(tmp_path / name, tmp_path / "cache").code == "damaged_archive"
    write_picture(tmp_path / "b.zip", 1)
    assert refused(tmp_path / "b.zip", tmp_path / "cache").code == "damaged_archive"


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([".zip", ".tar", ".tar.gz"]), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=3)
)
def test_a_damaged_archive_is_read_or_refused_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, flips: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    archive = pack(write_classes(folder / "set", {"cat": 1, "dog": 1}), folder / f"a{suffix}")
    raw = bytearray(archive.read_bytes())
    for place, flip in flips:
        raw[min(len(raw) - 1, int(place * len(raw)))] ^= flip
    archive.write_bytes(raw)
    refusal = None
    try:
        opened(archive, folder / "cache")
    except DataError as error:
        refusal = error.code
    left = [path for path in (folder / "cache").rglob("*") if path.name != "archives"]
    assert left if refusal is None else refusal.startswith(("archive_", "damaged_", "encrypted_")) and not left
    shutil.rmtree(folder)


def test_a_lock_is_held_by_one_and_taken_over_from_the_dead(tmp_path: Path) -> None:
    first = claim(tmp_path / "lock")
    assert isinstance(first, Lock)
    second = claim(tmp_path / "lock")
    assert isinstance(second, Holder)
    assert (second.pid, bool(second.since)) == (os.getpid(), True)
    assert not second.is_gone()
    first.release()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lock").write_text('{"pid": 1, "host": "x", "started": "", "since": ""}')
    third = claim(tmp_path / "lock")
    assert isinstance(third, Lock)
    third.release()
