"""`explain` from the command line to the folder it fills, on pictures whose class one patch tells."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.runtime import Bundle
from tests.patches import patch_bundle, patched, write_pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patch_bundle(tmp_path_factory.mktemp("patches") / "bundle").path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    cells = [(0, 0), (5, 5), (0, 5), (5, 0)]
    pictures = np.stack([patched(number % 2, *cell, 40 + number) for number, cell in enumerate(cells)])
    return write_pictures(tmp_path / "new", pictures)


def test_the_terminal_says_where_the_evidence_lies(tellapart, bundle: Path, files: list[Path]) -> None:
    ran = tellapart("explain", bundle, *files)
    assert ran.code == 0
    lines = ran.out.splitlines()
    for file, label, words in zip(
        files, ["green", "red"] * 2, ["upper left", "lower right", "upper right", "lower left"], strict=True
    ):
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{file}: {label} "))
        assert lines[at + 1].startswith(f"  evidence   {words}, ")
        assert lines[at + 2].startswith(f"  runner-up  {'green' if label == 'red' else 'red'} ")
        assert lines[at + 3].startswith("  like it    of the 10 nearest training pictures: ")


def test_the_json_is_one_object_whose_maps_are_what_hiding_takes(tellapart, bundle: Path, files: list[Path]) -> None:
    ran = tellapart("explain", bundle, files[0], files[1], "--json")
    found = ran.json
    assert list(found) == ["version", "bundle", "method", "maps_shown", "sanity", "pictures", "notes", "page"]
    assert (found["version"], found["method"], found["maps_shown"], found["page"]) == (
        1,
        "class_activation",
        True,
        None,
    )
    assert found["sanity"]["deletion"] < found["sanity"]["random_deletion"]
    assert found["sanity"]["n"] == 10
    predicted = tellapart("predict", bundle, files[0], files[1], "--json").lines
    for one, line in zip(found["pictures"], predicted, strict=True):
        assert {name: one[name] for name in line} == line
        map_ = one["evidence"]["map"]
        assert np.array(map_["values"]).shape == (7, 7)
        assert 0.5 <= map_["mass"] <= 1
        assert map_["without"] < one["evidence"]["prob"]
        assert [near["similarity"] for near in one["evidence"]["neighbours"]] == sorted(
            (near["similarity"] for near in one["evidence"]["neighbours"]), reverse=True
        )
        assert sum(one["nearest"].values()) == 10


def test_neighbours_are_of_the_class_they_speak_for(tellapart, bundle: Path, files: list[Path]) -> None:
    labels = Bundle(bundle).reference.reference_labels
    for one in tellapart("explain", bundle, *files, "--json").json["pictures"]:
        for part in (one["evidence"], one["runner_up"]):
            of = {["green", "red"][labels[near["reference"]]] for near in part["neighbours"]}
            assert of == {part["label"]}


def test_a_broken_picture_is_told_in_its_place_and_the_run_goes_on(
    tellapart, bundle: Path, files: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:80])
    ran = tellapart("explain", bundle, files[0], broken, tmp_path / "gone.png", "--json", "--out", tmp_path / "why")
    assert ran.code == 0
    assert ["error" in one for one in ran.json["pictures"]] == [False, True, True]
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == ["001-00.png", "explain.html"]
    alone = tellapart("explain", bundle, broken, "--out", tmp_path / "none")
    assert alone.code == 2
    told, last = (line for line in alone.err.splitlines() if line.endswith("]"))
    assert told.startswith(f"{broken}: ")
    assert told.endswith("Fetch the picture again, or remove the file. [truncated]")
    assert last.endswith("[none_answered]")


def test_a_folder_is_filled_replaced_when_it_is_ours_and_refused_otherwise(
    tellapart, bundle: Path, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "why"
    assert tellapart("explain", bundle, *files, "--out", out, "--filters").code == 0
    assert len(list(out.iterdir())) == len(files) + 2
    with Image.open(out / "001-00.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 2 * sheet.height
    assert tellapart("explain", bundle, files[0], "--out", out).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["001-00.png", "explain.html"]
    (out / "letter.txt").write_text("dear")
    ran = tellapart("explain", bundle, files[0], "--out", out)
    assert ran.code == 2
    assert "out_not_empty" in ran.err
    assert (out / "letter.txt").read_text() == "dear"
    for place in (files[0].parent, bundle / "why", bundle):
        assert tellapart("explain", bundle, files[0], "--out", place).code == 2
    assert tellapart("explain", bundle, files[0], "--filters").code == 2


def test_a_map_in_a_png_is_brightest_where_the_patch_is(
    tellapart, bundle: Path, files: list[Path], tmp_path: Path
) -> None:
    tellapart("explain", bundle, *files, "--out", tmp_path / "why")
    with Image.open(tmp_path / "why" / "002-01.png") as sheet:  # its patch is lower right
        middle = np.asarray(sheet.convert("RGB"), dtype=np.float64)[36:436, 420:820]
    assert middle[250:, 250:, 1].mean() > 1.5 * middle[:200, :200, 1].mean()


def test_a_bundle_without_pictures_says_so(tellapart, files: list[Path], tmp_path: Path) -> None:
    path = patch_bundle(tmp_path / "bundle", shown=False).path
    ran = tellapart("explain", path, *files, "--json")
    assert any("--no-reference" in note for note in ran.json["notes"])
    for one in ran.json["pictures"]:
        assert one["nearest"] == {}
        assert one["evidence"]["neighbours"] == []
    assert ran.json["sanity"]["n"] == len(files)  # waves that stand for pictures are no pictures


def test_maps_that_fail_their_checks_are_not_shown_anywhere(tellapart, photos: Path, tmp_path: Path) -> None:
    import tellapart as package

    run = package.train(photos, method="majority", budget="30s", out=tmp_path / "run")
    picture = photos / "ants" / "00.png"
    ran = tellapart("explain", run.bundle, picture, "--out", tmp_path / "why")
    assert ran.code == 0
    assert "Maps are not shown" in ran.out
    assert "evidence " not in ran.out
    page = (tmp_path / "why" / "explain.html").read_text(encoding="utf-8")
    assert "Maps are not shown" in page
    assert '<svg class="pic mapped"' not in page
    assert tellapart("explain", run.bundle, picture, "--json").json["pictures"][0]["evidence"]["map"] is None


def test_pictures_of_an_archive_are_told_by_their_names_in_it(
    tellapart, bundle: Path, files: list[Path], tmp_path: Path
) -> None:
    import zipfile

    archive = tmp_path / "new.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in files:
            zipped.write(file, file.name)
    found = tellapart("explain", bundle, archive, "--json").json["pictures"]
    assert [one["path"] for one in found] == [f"{archive}/{file.name}" for file in files]


def test_a_photo_that_is_no_square_shows_where_the_network_looked(tmp_path: Path, bundle: Path) -> None:
    from tellapart.images import Preprocess
    from tellapart.report.overlay import layer_png, veiled

    evidence = np.zeros((7, 7), np.float32)
    evidence[3, 3] = 2.0
    crop = veiled(evidence, 2.0, (300, 100), Preprocess(image_size=56, resize_policy="crop"))
    assert crop.shape == (100, 300, 4)
    assert (crop[:, :100, :3] == 0).all()  # not shown to the network: darkened
    assert crop[50, 150, 1] > 150
    pad = veiled(evidence, 2.0, (300, 100), Preprocess(image_size=56, resize_policy="pad"))
    assert pad[50, 150, 1] > 150
    assert (pad[..., 3] < 255 * 0.85).all()
    with Image.open(io.BytesIO(layer_png(crop))) as layer:
        assert layer.size == (300, 100)
