"""A bundle leaves for OpenVINO and for the browser: the same answers there, and nothing that was not asked for."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import tellapart
from tellapart.errors import BundleError, GateError, InputError, MissingExtraError
from tellapart.images import prepare
from tellapart.runtime import Bundle, Prediction
from tellapart.runtime.card import IR, ORT_WEB, PAGE
from tellapart.runtime.openvino_session import OpenVinoSession
from tellapart.ship import site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request


@pytest.fixture(scope="module")
def with_ir(conv_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tellapart.ExportResult:
    out = tmp_path_factory.mktemp("openvino") / "out"
    return tellapart.export(conv_run / "bundle", out, to="openvino", precision="fp32")


def test_an_ir_beside_the_bundle_gives_its_logits(with_ir: tellapart.ExportResult, photos: Path) -> None:
    result = with_ir
    assert [(form.precision, form.runtime) for form in result.forms] == [
        ("as it is", "onnxruntime"),
        ("fp32", "onnxruntime"),
        ("fp32", "openvino"),
    ]
    assert result.forms[2].speed is not None
    bundle = Bundle(result.out)
    assert set(IR) < set(bundle.card.digests)
    xml, weights = ((result.out / name).read_bytes() for name in IR)
    assert b"/tmp" not in xml
    session = OpenVinoSession(xml, weights)
    for file in sorted((photos / "ants").iterdir())[:4]:
        image = prepare(file, bundle.preprocess)[None]
        expected = bundle.session.run(image)
        given = session.run(image, list(expected))
        for name, values in expected.items():
            np.testing.assert_allclose(given[name], values, atol=1e-4)
    answers = list(tellapart.predict(result.out, photos))
    assert sum(isinstance(one, Prediction) for one in answers) == 48


def test_an_ir_that_answers_otherwise_is_refused(
    conv_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OpenVinoSession.run

    def off(self: OpenVinoSession, image: Any, outputs: Any) -> dict[str, Any]:
        found = run(self, image, outputs)
        return {**found, "logits": found["logits"] + np.float32(0.5)}

    monkeypatch.setattr(OpenVinoSession, "run", off)
    with pytest.raises(GateError, match=r"differ by 0\.5") as refused:
        tellapart.export(conv_run / "bundle", tmp_path / "out", to="openvino", precision="fp32")
    assert refused.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_without_openvino_its_install_line_is_told(
    conv_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("tellapart.runtime.openvino_session.importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=r"\[openvino\]"):
        tellapart.export(conv_run / "bundle", tmp_path / "out", to="openvino")


@pytest.mark.parametrize("change", ["flipped", "longer", "missing", "unlisted", "linked"])
def test_what_lies_beside_a_bundle_is_held_to_its_card(
    with_ir: tellapart.ExportResult, tmp_path: Path, change: str
) -> None:
    out = Path(shutil.copytree(with_ir.out, tmp_path / "out"))
    weights = out / IR[1]
    content = bytearray(weights.read_bytes())
    if change == "flipped":
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    elif change == "longer":
        weights.write_bytes(content + b"x")
    elif change == "missing":
        weights.unlink()
    elif change == "unlisted":
        (out / "page.js").write_text("alert(1)")
    else:
        weights.rename(tmp_path / "away")
        weights.symlink_to(tmp_path / "away")
    with pytest.raises(BundleError):
        Bundle(out)


@pytest.fixture(scope="session")
def ort_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-web, from npm's own cache: nothing is fetched."""
    folder = tmp_path_factory.mktemp("ort_web")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_offline", "true")
        try:
            found = site.ort_web(None)
        except InputError as error:
            pytest.skip(f"onnxruntime-web {site.ORT_WEB_VERSION} is not in npm's cache ({error})")
    for name, (theirs, _) in site.PARTS.items():
        (folder / theirs).write_bytes(found[name])
    return folder


@pytest.fixture(scope="session")
def page_folder(conv_run: Path, ort_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "page"
    result = tellapart.export(conv_run / "bundle", out, to="browser", ort_web=ort_web)
    assert result.precision == "fp16"
    return out


@pytest.fixture(scope="session")
def served(page_folder: Path) -> Iterator[str]:
    """The address of the folder on a plain static server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page_folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def page(browser: Browser, served: str) -> Iterator[Page]:
    """The page, loaded and ready; whatever it asks of anybody else, or is refused by its policy, fails the test."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 800})
    opened = context.new_page()

    def asked(request: Request) -> None:
        if not request.url.startswith((served, "blob:", "data:")):
            faults.append(request.url)

    opened.on("request", asked)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text))
    opened.goto(served)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()
    assert faults == []


def answered(page: Page, files: list[Path]) -> list[dict[str, Any]]:
    before = page.locator(".card").count()
    page.set_input_files("#files", files)
    page.wait_for_selector(f"#answers > .card:nth-child({before + len(files)})")
    told = page.evaluate("[...document.querySelectorAll('.card')].map((card) => ({...card.dataset}))")
    return list(reversed(told[: len(files)]))


def test_the_browser_answers_as_predict_does(page: Page, page_folder: Path, photos: Path) -> None:
    files = [*sorted((photos / "ants").iterdir())[:6], *sorted((photos / "bees").iterdir())[:6]]
    ours = list(tellapart.predict(page_folder, files))
    theirs = answered(page, files)
    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, Prediction)
        assert other["label"] == mine.label
        assert other["answer"] == mine.answer
        np.testing.assert_allclose(json.loads(other["probs"]), mine.probs, atol=1e-3)
        assert float(other["novelty"]) == pytest.approx(mine.novelty, abs=1e-3)
    assert {one["label"] for one in theirs} == {"ants", "bees"}


def test_pictures_of_other_sizes_and_kinds_are_answered_alike(
    page: Page, page_folder: Path, photos: Path, tmp_path: Path
) -> None:
    made = []
    with Image.open(photos / "bees" / "00.png") as picture:
        large = picture.resize((150, 90), Image.Resampling.BICUBIC)
        for name, options in (("a.png", {}), ("b.jpg", {"quality": 95}), ("c.webp", {"lossless": True})):
            large.save(tmp_path / name, **options)
            made.append(tmp_path / name)
        turned = Image.Exif()
        turned[274] = 6
        large.save(tmp_path / "d.jpg", quality=95, exif=turned)
        made.append(tmp_path / "d.jpg")
        clear = large.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(large.size).point(lambda level: 255 * (level > 120)))
        clear.save(tmp_path / "e.png")
        made.append(tmp_path / "e.png")
    for mine, other in zip(tellapart.predict(page_folder, made), answered(page, made), strict=True):
        assert isinstance(mine, Prediction)
        assert (other["label"], other["answer"]) == (mine.label, mine.answer)
        assert float(other["prob"]) == pytest.approx(
            mine.prob, abs=1e-3 if str(mine.path).endswith(("png", "webp")) else 0.02
        )


def test_what_is_no_picture_is_told_and_the_next_one_is_answered(page: Page, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.set_input_files("#files", tmp_path / "bad.png")
    page.wait_for_selector("#status.bad")
    assert "cannot" in page.inner_text("#status") or "not a picture" in page.inner_text("#status")
    assert len(answered(page, [photos / "ants" / "00.png"])) == 1


def test_a_file_that_was_changed_is_not_run(browser: Browser, page_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(page_folder, tmp_path / "copy"))
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(copy))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = browser.new_page()
        opened.goto(f"http://127.0.0.1:{server.server_address[1]}")
        opened.wait_for_selector("#status.bad")
        assert "model.onnx is not that of the card" in opened.inner_text("#status")
        opened.close()
        server.shutdown()


def test_the_camera_is_a_source_too(browser: Browser, served: str) -> None:
    context = browser.new_context(permissions=["camera"])
    opened = context.new_page()
    opened.goto(served)
    opened.wait_for_selector("body[data-ready]")
    opened.get_by_role("button", name="Use the camera").press("Enter")
    opened.wait_for_selector("#take:focus")
    opened.keyboard.press("Enter")
    opened.wait_for_selector(".card[data-name=camera]")
    opened.keyboard.press("Escape")
    assert opened.locator("#start").is_visible()
    assert opened.evaluate("document.querySelector('video').srcObject.active") is False
    context.close()


def test_no_training_picture_goes_to_the_browser(conv_run: Path, page_folder: Path) -> None:
    assert {*PAGE, *ORT_WEB} < {path.name for path in page_folder.iterdir()}
    before, after = Bundle(conv_run / "bundle"), Bundle(page_folder)
    assert before.reference.thumbnails is not None
    assert after.reference.thumbnails is None
    shown = {picture.tobytes() for picture in before.selftest}
    assert shown.isdisjoint(picture.tobytes() for picture in after.selftest)


def test_onnxruntime_web_is_held_to_its_version(
    conv_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").mkdir()
    for name, _ in site.PARTS.values():
        (tmp_path / "dist" / name).write_bytes(b"another one")
    monkeypatch.setattr("tellapart.ship.site.shutil.which", lambda _: None)
    for folder, said in ((tmp_path, "is not that of"), (tmp_path / "absent", "does not hold"), (None, "npm is not")):
        with pytest.raises(InputError, match=said) as refused:
            tellapart.export(conv_run / "bundle", tmp_path / "out", to="browser", ort_web=folder)
        assert refused.value.code == "ort_web"
        assert "--ort-web" in refused.value.next
    assert not (tmp_path / "out").exists()
