"""CleanVision and cleanlab by themselves, in their own environment: python peer_cleanvision.py FOLDER | PROBS.npz

Of a folder it prints the paths of each kind of issue; of predictions (`probs`, `targets`) the flagged rows, ranked.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    place = Path(sys.argv[1])
    began = time.perf_counter()
    if place.is_dir():
        from cleanvision import Imagelab  # type: ignore[import-not-found]

        lab = Imagelab(data_path=str(place))
        lab.find_issues(n_jobs=2, verbose=False)
        found = {}
        for column in lab.issues.columns:
            if column.startswith("is_") and column.endswith("_issue"):
                rows = lab.issues.index[lab.issues[column]]
                found[column[3:-6]] = [str(Path(path).relative_to(place)) for path in rows]
        print(json.dumps({"seconds": time.perf_counter() - began, "found": found}))
        return
    import numpy as np
    from cleanlab.filter import find_label_issues  # type: ignore[import-not-found]
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]

    given = np.load(place)
    flagged = find_label_issues(given["targets"], given["probs"], return_indices_ranked_by="self_confidence", n_jobs=1)
    order = np.argsort(get_label_quality_scores(given["targets"], given["probs"]), kind="stable")
    said = {"seconds": time.perf_counter() - began, "flagged": flagged.tolist(), "order": order.tolist()}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
