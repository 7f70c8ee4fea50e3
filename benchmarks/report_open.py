"""How large the report of 10,000 pictures is, and how long Chromium takes to open it.

    uv run python benchmarks/report_open.py [--pictures 10000] [--classes 100] [--times 5]

The run is made up; its pictures are smooth noise, which compresses about as photographs do. Needs Chromium on the path.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tellapart import judge
from tellapart.images import thumbnail_jpeg
from tellapart.report import ClassRow, PictureCard, ReliabilityBin, SplitReport, Summary, render

SHOWN, MISTAKES = 376, 24


def picture(seed: int, side_px: int) -> bytes:
    """A JPEG of noise at several scales, `side_px` on each side."""
    draws = np.random.default_rng(seed)
    pixels = np.zeros((side_px, side_px, 3))
    for scale in (4, 8, 16, 32, 64):
        coarse = Image.fromarray(draws.integers(0, 256, (scale, scale, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC), dtype=float) / 5
    return thumbnail_jpeg(pixels.astype(np.uint8), side_px)


def made_up(num_pictures: int, num_classes: int) -> Summary:
    """A run with so many test pictures and classes."""
    draws = np.random.default_rng(0)
    classes = tuple(f"species {number:03d}" for number in range(num_classes))
    targets = np.arange(num_pictures) % num_classes
    logits = draws.normal(size=(num_pictures, num_classes))
    logits[np.arange(num_pictures), targets] += 3.0
    probs = judge.softmax(logits.astype(np.float32))
    predicted = probs.argmax(axis=1)
    names = tuple(ClassRow.__dataclass_fields__)
    rows = judge.per_class(targets, probs, classes)
    split = SplitReport(
        judge.metrics(targets, probs).as_json(),
        tuple(ClassRow(**{name: getattr(row, name) for name in names}) for row in rows),
        judge.confusion(targets, predicted, num_classes),
        tuple(ReliabilityBin(b.low, b.high, b.n, b.confidence, b.accuracy) for b in judge.reliability(targets, probs)),
    )

    def card(row: int, side_px: int) -> PictureCard:
        order = np.argsort(-probs[row])[:3].tolist()
        top = tuple((classes[index], float(probs[row, index])) for index in order)
        label = classes[int(targets[row])]
        return PictureCard(picture(row, side_px), f"test/{label}/photo_{row:06d}.jpg", label, *top[0], top, 0.4)

    wrong = np.flatnonzero(predicted != targets)[: MISTAKES + SHOWN // 2].tolist()
    right = np.flatnonzero(predicted == targets)[: SHOWN - SHOWN // 2].tolist()
    return Summary(
        title="species",
        data="species",
        classes=classes,
        counts={"found": 3 * num_pictures, "used": 3 * num_pictures, "excluded": 0, "test": num_pictures},
        method="probe",
        run="species-runs/1",
        bundle="species-runs/1/bundle",
        ladder=(),
        splits={"test": split},
        mistakes=tuple(card(row, 224) for row in wrong[:MISTAKES]),
        examples=tuple(card(row, 128) for row in wrong[MISTAKES:] + right),
        excluded=tuple((f"species/{row}.jpg", "truncated", "The file ends too early.") for row in range(2000)),
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pictures", type=int, default=10_000)
    asked.add_argument("--classes", type=int, default=100)
    asked.add_argument("--times", type=int, default=5)
    asked.add_argument("--report", type=Path, help="measure this report instead")
    wish = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = wish.report or Path(folder) / "report.html"
        if wish.report is None:
            summary = made_up(wish.pictures, wish.classes)
            began = time.perf_counter()
            html = render(summary)
            print(f"rendered in {time.perf_counter() - began:.2f} s")
            page_file.write_text(html, encoding="utf-8")
        print(f"{page_file.stat().st_size / 1e6:.2f} MB")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        measured: dict[str, list[float]] = {"DOMContentLoaded": [], "load": [], "first paint": []}
        for _ in range(wish.times):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(page_file.resolve().as_uri(), wait_until="load")
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            entry = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
            measured["DOMContentLoaded"].append(entry["domContentLoadedEventEnd"])
            measured["load"].append(entry["loadEventEnd"])
            measured["first paint"].append(
                page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
            page.close()
        browser.close()
    for name, values in measured.items():
        print(f"{name}: median {statistics.median(values):.0f} ms, worst {max(values):.0f} ms of {len(values)}")


if __name__ == "__main__":
    main()
