"""One side of predict_peers.py, run by its own Python: peer_predict.py NAME MODEL FILES SIDE CLASSES

Loads, tries its settings once, prints {"setting": ...}, then for each line of input answers all files and prints
{"seconds": ...}. What is not measured is never printed in such a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Answer = Callable[[list[str]], list[Any]]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tellapart(model: str, side: int, classes: int, follow: bool) -> Mapping[str, Answer]:
    from tellapart.runtime import predictor_for

    predictor = predictor_for(Path(model), None if follow else CORES)

    def answer(files: list[str]) -> list[Any]:
        return [getattr(one, "label", None) for one in predictor.predict(files)]

    return {"as bench left it" if follow else "default": answer}


def torch_loop(model: str, side: int, classes: int) -> Mapping[str, Answer]:
    import timm
    import torch
    from PIL import Image
    from torchvision import transforms

    network = timm.create_model(f"local-dir:{model}", pretrained=True, num_classes=classes).eval()
    steps = transforms.Compose(
        [
            transforms.Resize(round(side / 0.875), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ]
    )

    def with_threads(threads: int) -> Answer:
        def answer(files: list[str]) -> list[Any]:
            torch.set_num_threads(threads)
            labels: list[Any] = []
            with torch.inference_mode():
                for start in range(0, len(files), 32):
                    batch = torch.stack([steps(Image.open(file).convert("RGB")) for file in files[start : start + 32]])
                    labels += network(batch).argmax(1).tolist()
            return labels

        return answer

    return {f"{threads} threads": with_threads(threads) for threads in sorted({1, CORES})}


def fastai(model: str, side: int, classes: int) -> Mapping[str, Answer]:
    from fastai.vision.all import ImageDataLoaders, Resize, vision_learner

    names = [str(number) for number in range(classes)]
    some = Path(sys.argv[3]).read_text().split("\n")[: 4 * classes]
    labels = [names[number % classes] for number in range(len(some))]
    loaders = ImageDataLoaders.from_lists(Path("/"), some, labels, item_tfms=Resize(side), bs=2, num_workers=0)
    learner = vision_learner(loaders, f"local-dir:{model}")

    def with_workers(workers: int) -> Answer:
        def answer(files: list[str]) -> list[Any]:
            with learner.no_bar():
                found = learner.get_preds(dl=learner.dls.test_dl(files, bs=64, num_workers=workers))
            return list(found[0].argmax(1).tolist())

        return answer

    return {f"{workers} workers": with_workers(workers) for workers in sorted({0, CORES})}


def ultralytics(model: str, side: int, classes: int) -> Mapping[str, Answer]:
    from ultralytics import YOLO  # type: ignore[import-not-found, unused-ignore]

    network = YOLO("yolo11n-cls.yaml")

    def with_batch(batch: int) -> Answer:
        def answer(files: list[str]) -> list[Any]:
            found = network.predict(files, imgsz=side, batch=batch, verbose=False, stream=True, device="cpu")
            return [one.probs.top1 for one in found]

        return answer

    return {f"batch {batch}": with_batch(batch) for batch in (1, 16)}


def openvino_api(model: str, side: int, classes: int) -> Mapping[str, Answer]:
    """Run what the Model API takes: the network without its own normalisation of sizes, pictures by OpenCV."""
    import cv2
    from model_api.models import ClassificationModel

    network = ClassificationModel.create_model(
        str(prepared(model, side)),
        model_type="Classification",
        configuration={"resize_type": "crop", "labels": [str(n) for n in range(classes)]},
    )

    def answer(files: list[str]) -> list[Any]:
        return [network(cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB)) for file in files]

    return {"as it comes": answer}


def openvino_queue(model: str, side: int, classes: int) -> Mapping[str, Answer]:
    """Run OpenVINO in its throughput mode: pictures by OpenCV, requests in a queue."""
    import cv2
    import numpy as np
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(Path(model) / "model.xml"), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})

    def answer(files: list[str]) -> list[Any]:
        labels: list[Any] = [None] * len(files)
        queue = openvino.AsyncInferQueue(compiled)

        def done(request: Any, place: int) -> None:
            labels[place] = int(request.get_output_tensor(0).data.argmax())

        queue.set_callback(done)
        for place, file in enumerate(files):
            picture = cv2.cvtColor(cv2.imread(file), cv2.COLOR_BGR2RGB)
            short = min(picture.shape[:2])
            top, left = (picture.shape[0] - short) // 2, (picture.shape[1] - short) // 2
            square = picture[top : top + short, left : left + short]
            queue.start_async([cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)[np.newaxis]], place)
        queue.wait_all()
        return labels

    return {"throughput": answer}


def prepared(model: str, side: int) -> Path:
    """Return the IR in the layout that the Model API asks for, [1, 3, S, S], with one output."""
    import openvino
    from openvino import preprocess

    read = openvino.Core().read_model(str(Path(model) / "model.xml"))
    read = openvino.Model([read.outputs[0]], read.get_parameters(), "classifier")
    read.reshape([1, side, side, 3])
    steps = preprocess.PrePostProcessor(read)
    steps.input().tensor().set_layout(openvino.Layout("NCHW"))
    steps.input().model().set_layout(openvino.Layout("NHWC"))
    place = Path(model).with_name("model_api.xml")
    openvino.save_model(steps.build(), str(place), compress_to_fp16=False)
    return place


def main() -> None:
    name, model, listing, side, classes = sys.argv[1:]
    files = Path(listing).read_text().split("\n")
    made: dict[str, Callable[[], Mapping[str, Answer]]] = {
        "torch loop": lambda: torch_loop(model, int(side), int(classes)),
        "fastai": lambda: fastai(model, int(side), int(classes)),
        "ultralytics": lambda: ultralytics(model, int(side), int(classes)),
        "openvino model api": lambda: openvino_api(model, int(side), int(classes)),
        "openvino queue": lambda: openvino_queue(model, int(side), int(classes)),
    }
    ours = name.startswith("tellapart")
    settings = tellapart(model, int(side), int(classes), name.endswith("bench")) if ours else made[name]()
    times = {}
    for setting, answer in settings.items():
        assert len(answer(files[:32])) == 32
        began = time.perf_counter()
        answer(files[:64])
        times[setting] = time.perf_counter() - began
    best = min(times, key=lambda setting: times[setting])
    print(json.dumps({"setting": best}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        found = settings[best](files)
        seconds = time.perf_counter() - began
        assert len(found) == len(files)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
