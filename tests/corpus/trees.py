"""The bad inputs that are folders, names, tables and archives: cases 43 to 83, each as small as it can be.

A case writes its data below a folder and says what is to come of it: `use` (with what is left out, and words that the
notes must hold), or `stop` with a code. What a person has to have asked for stands in `options`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import socket
import stat
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["CASES", "Case", "pets", "picture"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input. `build` writes it into an empty folder and returns what is given as DATA.

    `left` are the codes of what is left out, by path; `words` stand in the notes; `found` is how many files count;
    `needs` is `linux` or `root`, where the case cannot be made without.
    """

    number: int
    name: str
    build: Callable[[Path], Path]
    stop: str | None = None
    left: dict[str, str] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()
    found: int | None = None
    options: tuple[str, ...] = ()
    needs: str = ""

    @property
    def id(self) -> str:
        """How a test of this case is called."""
        return f"{self.number}-{self.name}"


def picture(path: Path, seed: int, size: int = 12) -> Path:
    """Write a PNG file that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def pets(root: Path, each: int = 4, classes: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> Path:
    """Write a folder per class."""
    for number, name in enumerate(classes):
        for index in range(each):
            picture(root / name / f"{index:03d}.png", first + 1000 * number + index)
    return root


def _set(folder: Path) -> Path:
    return pets(folder / "set")


def _loop(folder: Path) -> Path:
    root = _set(folder)
    (root / "cat/again").symlink_to(root)
    (root / "cat/self").symlink_to("self")
    return root


def _leaving(folder: Path) -> Path:
    root = _set(folder)
    outside = pets(folder / "elsewhere")
    (root / "cat/out.png").symlink_to(outside / "cat/000.png")
    (root / "more").symlink_to(outside)
    (root / "cat/in.png").symlink_to("000.png")
    return root


def _no_files(folder: Path) -> Path:
    root = _set(folder)
    (root / "cat/gone.png").symlink_to("nowhere.png")
    os.mkfifo(root / "cat/pipe.png")
    with contextlib.chdir(root / "cat"), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
    return root


def _device(folder: Path) -> Path:
    root = _set(folder)
    os.mknod(root / "cat/zero.png", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return root


def _unreadable_file(folder: Path) -> Path:
    root = _set(folder)
    picture(root / "cat/private.png", 77).chmod(0)
    return root


def _unreadable_folder(folder: Path) -> Path:
    root = pets(folder / "set", classes=("cat", "dog", "secret"))
    (root / "secret").chmod(0)
    return root


def _classes(*names: str) -> Callable[[Path], Path]:
    return lambda folder: pets(folder / "set", classes=names)


def _names(*names: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        root = _set(folder)
        for number, name in enumerate(names):
            picture(root / "cat" / name, 500 + number)
        return root

    return build


def _too_deep(folder: Path) -> Path:
    """Folders below each other until the path is longer than the system takes: made one step at a time."""
    root = _set(folder)
    here = os.open(root / "cat", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("1.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    return root


def _litter(folder: Path) -> Path:
    root = _set(folder)
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._000.png", ".git/config", "@eaDir/x.png", "desktop.ini"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    picture(root / "__MACOSX/cat/000.png", 1)
    picture(root / "cat/.hidden.png", 2)
    return root


def _hidden(folder: Path) -> Path:
    root = _set(folder)
    for name in (".hidden/cat/1.png", "cat/.thumbnail.png", "__MACOSX/cat/._000.png"):
        picture(root / name, 3)
    return root


def _nested(folder: Path) -> Path:
    return pets(folder / "set", classes=("animals/cat", "animals/dog", "plants/oak"))


def _beside(folder: Path) -> Path:
    picture(_set(folder) / "stray.png", 900)
    return folder / "set"


def _one_and_none(folder: Path) -> Path:
    root = _set(folder)
    picture(root / "newt/1.png", 901)
    (root / "unicorn").mkdir()
    return root


def _uneven(folder: Path) -> Path:
    root = pets(folder / "set", each=120, classes=("cat",))
    return pets(root, each=2, classes=("dog",), first=5000)


def _many_classes(folder: Path) -> Path:
    return pets(folder / "set", each=2, classes=tuple(f"c{number:04d}" for number in range(300)))


def _both(folder: Path) -> Path:
    root = _set(folder)
    for name in ("cat/same.png", "dog/same.png", "dog/copy.png"):
        picture(root / name, 902)
    return root


def _recoded(folder: Path) -> Path:
    root = _set(folder)
    with Image.open(root / "cat/000.png") as same:
        same.save(root / "dog/other.bmp")
    return root


def _table(text: str | bytes, name: str = "t.csv") -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        for number in range(8):
            picture(folder / f"set/p{number}.png", number)
        picture(folder / "secret.png", 99)
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "set" / name).write_bytes(content)
        return folder / "set" / name

    return build


_ROWS = "".join(f"p{number}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(8))
_TABLE = f"path,label\n{_ROWS}"


def _zip(*members: tuple[str, bytes], flags: int = 0, mode: int = 0) -> Callable[[Path], Path]:
    """An archive of the usual set, and of `members` besides."""

    def build(folder: Path) -> Path:
        root = _set(folder / "unpacked")
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(root.rglob("*.png")):
                packed.write(path, path.relative_to(root))
            for name, content in members:
                info = zipfile.ZipInfo(name)
                info.create_system, info.compress_type = 3, zipfile.ZIP_DEFLATED
                info.external_attr = mode << 16
                packed.writestr(info, content)
        raw = bytearray((folder / "a.zip").read_bytes())
        raw[raw.rfind(b"PK\x01\x02") + 8] |= flags
        (folder / "a.zip").write_bytes(raw)
        return folder / "a.zip"

    return build


def _overlapping(folder: Path) -> Path:
    archive = _zip(("cat/x.png", b"x" * 500))(folder)
    raw = bytearray(archive.read_bytes())
    at = raw.rfind(b"PK\x01\x02") + 42
    raw[at : at + 4] = struct.pack("<I", 0)
    archive.write_bytes(raw)
    return archive


def _tar(*members: tuple[str, bytes, str]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        root = _set(folder / "unpacked")
        with tarfile.open(folder / "a.tar.gz", "w:gz") as packed:
            packed.add(root, ".")
            for name, kind, target in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                packed.addfile(info, io.BytesIO())
        return folder / "a.tar.gz"

    return build


def _nested_zip(folder: Path) -> Path:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("x.png", b"x")
    return _zip(("cat/inner.zip", inner.getvalue()))(folder)


_NFC, _NFD = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
_BYTES = os.fsdecode(b"caf\xe9\xff")
_DEEP = "cat" + ("/" + "d" * 200) * 19


def _cases() -> Iterator[Case]:
    yield Case(
        43,
        "link_loop",
        _loop,
        left={"cat/again": "symlink_folder", "cat/self": "not_a_file"},
        words=("not followed: cat/again",),
        needs="posix",
    )
    yield Case(
        44,
        "link_leaving",
        _leaving,
        left={"cat/out.png": "symlink_outside", "more": "symlink_outside"},
        words=("2 link(s) or mounts",),
        found=11,
        needs="posix",
    )
    no_files = dict.fromkeys(("cat/gone.png", "cat/pipe.png", "cat/socket.png"), "not_a_file")
    yield Case(45, "no_regular_file", _no_files, left=no_files, needs="posix")
    yield Case(45, "device", _device, left={"cat/zero.png": "not_a_file"}, needs="root")
    yield Case(46, "unreadable_file", _unreadable_file, left={"cat/private.png": "permission"}, needs="posix")
    yield Case(46, "unreadable_folder", _unreadable_folder, stop="unreadable_folder", needs="posix")
    yield Case(47, "twin_folders", _classes(_NFC, _NFD), stop="class_twice", needs="linux")
    yield Case(47, "twin_files", _names(f"{_NFC}.png", f"{_NFD}.png"), found=10, needs="linux")
    yield Case(48, "odd_names", _names("\U0001f41d.png", "\u202egnp.exe", "a\u200bb.png", "\x1b[2J.png"), found=12)
    yield Case(49, "newline", _names("one\ntwo.png", "cr\r.png"), found=10, needs="posix")
    yield Case(50, "bytes_name", _names(f"{_BYTES}.png"), found=9, needs="linux")
    yield Case(50, "bytes_class", _classes("cat", _BYTES), stop="class_name", needs="linux")
    yield Case(51, "longest_name", _names("n" * 251 + ".png"), found=9, needs="posix")
    yield Case(51, "too_deep", _too_deep, left={"": "path_too_long"}, needs="linux")
    yield Case(52, "reserved_names", _classes("CON", "nul.txt", "dot.", "space "), found=16, needs="posix")
    yield Case(53, "case_twins", _classes("Cat", "cat"), stop="class_twice", needs="linux")
    yield Case(54, "litter", _litter, found=8, words=("Ignored 8 hidden or system",))
    yield Case(55, "hidden", _hidden, found=8, words=("Ignored 3 hidden or system",))
    yield Case(56, "nested", _nested, stop="nested_classes")
    yield Case(56, "nested_first", _nested, found=12, options=("--nested", "first"))
    yield Case(56, "nested_path", _nested, found=12, options=("--nested", "path"))
    yield Case(57, "beside", _beside, left={"stray.png": "no_label"}, words=("outside of any class folder",))
    yield Case(57, "beside_stop", _beside, stop="unlabelled_pictures", options=("--unlabelled", "stop"))
    yield Case(58, "one_class", _classes("cat"), stop="one_class")
    yield Case(59, "one_picture", _one_and_none, found=9, words=("One picture is all there is of: newt",))
    yield Case(60, "empty_class", _one_and_none, found=9, words=("Empty class folder(s), left out: unicorn",))
    yield Case(61, "uneven", _uneven, found=122, words=("Classes are uneven, 2 to 120",))
    yield Case(61, "many_classes", _many_classes, found=600)
    both = dict.fromkeys(("cat/same.png", "dog/same.png", "dog/copy.png"), "identical_in_two_classes")
    yield Case(67, "in_two_classes", _both, left=both, words=("3 file(s) were left out",))
    recoded = dict.fromkeys(("cat/000.png", "dog/other.bmp"), "identical_in_two_classes")
    yield Case(68, "same_pixels", _recoded, left=recoded)
    gone = _table(_TABLE + "".join(f"gone{n}.png,cat\n" for n in range(12)))
    yield Case(72, "missing_files", gone, stop="missing_files")
    skipped = {f"gone{n}.png": "missing_file" for n in range(12)}
    yield Case(72, "skip_missing", gone, left=skipped, words=("12 file(s)",), options=("--skip-missing",))
    yield Case(73, "repeated_rows", _table(_TABLE + "p0.png,dog\n"), found=8, words=("1 row(s) repeat",))
    yield Case(73, "conflicting_rows", _table(_TABLE + "p0.png,cat\n"), stop="conflicting_rows")
    for name, content in {
        "bom": _TABLE.encode("utf-8-sig"),
        "semicolon": _TABLE.replace(",", ";").encode(),
        "tab": _TABLE.replace(",", "\t").encode(),
        "crlf": _TABLE.replace("\n", "\r\n").encode(),
        "utf16": _TABLE.encode("utf-16"),
        "latin1": _TABLE.replace("cat", "caf\u00e9").encode("latin-1"),
        "quoted_newline": b"path,label,note\n" + _ROWS.replace("\n", ',"a\nb"\n').encode(),
    }.items():
        yield Case(74, name, _table(content), found=8)
    doubtful = 'path,label,"a\tpath\tlabel\tb"\n'
    yield Case(74, "two_separators", _table(doubtful + _ROWS), stop="ambiguous_table")
    yield Case(75, "no_header", _table(_ROWS), stop="no_header")
    yield Case(75, "blank_label", _table(_TABLE.replace("p3.png,cat", "p3.png, ")), stop="blank_label")
    spaced = _TABLE.replace(",dog", ",01").replace("p1.png,cat", "p1.png, None ").replace("p3.png,cat", "p3.png,None")
    yield Case(75, "odd_labels", _table(spaced), found=8, words=("Spaces around 1 label(s)",))
    out = ("../secret.png", "/etc/passwd", "file:///etc/passwd", "..\\secret.png")
    outside = _table(_TABLE + "".join(f"{path},cat\n" for path in out))
    yield Case(77, "outside", outside, left=dict.fromkeys(out, "outside_root"))
    split = "path,label,split\n" + "".join(f"p{n}.png,{'ab'[n % 2]},{'train' if n < 6 else 'test'}\n" for n in range(8))
    yield Case(
        78,
        "class_not_tested",
        _table(split.replace("p7.png,b,test", "p7.png,b,train")),
        found=8,
        words=("no picture of: b",),
    )
    yield Case(78, "unknown_in_test", _table(split.replace("p7.png,b", "p7.png,c")), stop="class_not_in_train")
    for name in ("../evil.png", "/tmp/evil.png", "C:\\evil.png", "cat\\evil.png"):
        yield Case(80, f"name_{name.encode().hex()[:12]}", _zip((name, b"x")), stop="archive_name")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        yield Case(81, f"tar_{kind.decode()}", _tar(("cat/x.png", kind, "/etc/passwd")), stop="archive_link")
    yield Case(81, "zip_link", _zip(("cat/x.png", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), stop="archive_link")
    yield Case(82, "bomb", _zip(("cat/x.png", bytes(15_000_000))), stop="archive_too_large")
    yield Case(82, "nested_archive", _nested_zip, left={"cat/inner.zip": "not_an_image"})
    yield Case(82, "overlap", _overlapping, stop="archive_overlap")
    yield Case(83, "twice", _zip(("cat/000.PNG", b"x")), stop="archive_duplicate")
    yield Case(83, "encrypted", _zip(("cat/x.png", b"x"), flags=1), stop="encrypted_archive")
    yield Case(83, "plain", _zip(), found=8)


CASES = tuple(_cases())
