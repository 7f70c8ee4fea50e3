"""The peers' side of finetune.py, run by a peer's own Python: peer_finetune.py PEER WEIGHTS BATCH ROUNDS

`fastai`: a learner of the same network as documented, unfrozen, `fit_one_cycle` on pictures in memory, its defaults.
`ultralytics`: its own classifier of the smallest size, from its description (no weights are fetched), in a plain loop.
The fastest batch counts, on one thread or on all. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

import torch


def by_fastai(weights: str, batch: int, rounds: int) -> float:
    from fastai.vision.all import Callback, DataLoader, DataLoaders, Learner, create_timm_model

    took: list[float] = []

    class Watch(Callback):  # type: ignore[misc]
        def before_batch(self) -> None:
            self.began = time.perf_counter()

        def after_batch(self) -> None:
            if self.training:  # a batch of validation is forward alone
                took.append(time.perf_counter() - self.began)

    pixels = torch.rand(batch * (rounds + 1), 3, 224, 224)
    pairs = [(picture, torch.tensor(place % 10)) for place, picture in enumerate(pixels)]
    loaders = DataLoaders(
        DataLoader(pairs, bs=batch, num_workers=0), DataLoader(pairs[:batch], bs=batch, num_workers=0)
    )
    model, _ = create_timm_model(f"local-dir:{weights}", 10)
    learner = Learner(loaders, model, loss_func=torch.nn.CrossEntropyLoss(), cbs=[Watch()])
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1)
    return batch / min(took)


def by_ultralytics(batch: int, rounds: int) -> float:
    os.environ["YOLO_OFFLINE"] = "true"
    from ultralytics.nn.tasks import ClassificationModel  # type: ignore[import-not-found]

    model = ClassificationModel("yolo11n-cls.yaml", nc=10, verbose=False).train()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    pixels, targets = torch.rand(batch, 3, 224, 224), torch.arange(batch) % 10
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels), targets).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        took.append(time.perf_counter() - began)
    return batch / min(took)


def main(peer: str, weights: str, batch: int, rounds: int) -> None:
    step: Callable[[], float] = (
        (lambda: by_fastai(weights, batch, rounds)) if peer == "fastai" else (lambda: by_ultralytics(batch, rounds))
    )
    found = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        found[threads] = step()
    print(json.dumps({"pictures_a_second": max(found.values()), "by_threads": found}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
