"""The peer's side of against_fastai.py, run by the peer's own Python: peer_fastai.py DATA WEIGHTS SEED

What fastai documents for this job (docs.fast.ai, "Computer vision intro"), all defaults: `Resize(224)`, normalisation
by the model's own configuration, `fine_tune(3)`; validation on 15 % of the training folder. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastai.vision.all import ImageDataLoaders, Resize, accuracy, get_image_files, set_seed, vision_learner


def main(data: Path, weights: str, seed: int) -> None:
    set_seed(seed, reproducible=True)
    loaders = ImageDataLoaders.from_folder(data / "train", valid_pct=0.15, seed=seed, item_tfms=Resize(224))
    learner = vision_learner(loaders, f"local-dir:{weights}", metrics=accuracy)
    with learner.no_bar():
        learner.fine_tune(3)
        pictures = get_image_files(data / "test")
        _, right = learner.validate(dl=loaders.test_dl(pictures, with_labels=True))
    print(json.dumps({"accuracy": float(right), "n": len(pictures)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
