"""The peers' side of small_pictures.py, run by a peer's own Python: peer_small_pictures.py PEER DATA SECONDS SEED

`fastai`: what its example for this set does (`examples/train_cifar.py` of fastai 1: padded crops, mirroring,
normalised, `fit_one_cycle` at 3e-3), by the present fastai: a `Learner` on its `xresnet18` from nothing (the
example's `wrn_22` has some forty times the multiplications, and would see the pictures less than once), in batches of
128, in full precision, for as many passes as a few timed batches say there is time for (a cycle has to know its end).
`keras`: `examples/cifar10_cnn.py` of keras-team/keras: two blocks of two convolutions with dropout, RMSprop at 1e-4,
batches of 32, moved by up to a tenth and mirrored, until the time is up; without its decay of 1e-6 a step, which the
present optimizer no longer has. All pictures (fastai: 98 %) are learned from, the test split is told at the end.
SECONDS are wall time from the start of the process. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()
_TEST_SECONDS = 15.0  # kept for the 10,000 test pictures and the end of the last pass


def by_fastai(data: Path, seconds: float, seed: int) -> float:
    from fastai.vision.all import (
        Callback,
        CancelFitException,
        CropPad,
        Flip,
        ImageDataLoaders,
        Learner,
        Normalize,
        RandomCrop,
        accuracy,
        get_image_files,
        set_seed,
        xresnet18,
    )

    set_seed(seed, reproducible=True)
    stats = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])
    loaders = ImageDataLoaders.from_folder(
        data / "train",
        valid_pct=0.02,
        seed=seed,
        item_tfms=[CropPad(40, pad_mode="reflection"), RandomCrop(32)],
        batch_tfms=[Flip(), Normalize.from_stats(*stats)],
        bs=128,
        num_workers=2,
    )
    ticks: list[float] = []

    class Watch(Callback):  # type: ignore[misc]
        def after_batch(self) -> None:
            ticks.append(time.monotonic())
            if len(ticks) > 40:
                raise CancelFitException

    def learner(*callbacks: Any) -> Any:
        return Learner(loaders, xresnet18(n_out=10), metrics=accuracy, cbs=callbacks)

    trial = learner(Watch())
    with trial.no_bar(), trial.no_logging():
        trial.fit_one_cycle(1, 3e-3)
    a_pass = (ticks[-1] - ticks[10]) / (len(ticks) - 11) * len(loaders.train)
    left = seconds - (time.monotonic() - BEGAN) - _TEST_SECONDS
    passes = max(1, int(left / (a_pass * 1.1)))
    fitted = learner()
    with fitted.no_bar(), fitted.no_logging():
        fitted.fit_one_cycle(passes, 3e-3)
        _, right = fitted.validate(dl=loaders.test_dl(get_image_files(data / "test"), with_labels=True))
    print(f"{passes} passes", file=sys.stderr)
    return float(right)


def by_keras(data: Path, seconds: float, seed: int) -> float:
    import keras  # type: ignore[import-not-found]
    import numpy as np
    from keras import layers
    from PIL import Image

    keras.utils.set_random_seed(seed)
    found = {}
    for split in ("train", "test"):
        folders = sorted(path for path in (data / split).iterdir() if path.is_dir())
        files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file, _ in files])
        found[split] = pixels, np.array([label for _, label in files])

    class UntilTheTimeIsUp(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.monotonic() - BEGAN > seconds - _TEST_SECONDS:
                self.model.stop_training = True

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = 1e-4
    model.fit(*found["train"], batch_size=32, epochs=1000, verbose=0, callbacks=[UntilTheTimeIsUp()])
    print(f"{int(model.optimizer.iterations) * 32 / len(found['train'][0]):.1f} passes", file=sys.stderr)
    return float(model.evaluate(*found["test"], batch_size=256, verbose=0)[1])


def main(peer: str, data: Path, seconds: float, seed: int) -> None:
    right = (by_fastai if peer == "fastai" else by_keras)(data, seconds, seed)
    number = sum(1 for _ in (data / "test").rglob("*.*"))
    print(json.dumps({"test": {"accuracy": right, "n": number}}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
