"""Is a run over when its budget is, and not much before: python -m benchmarks.budget [--budgets 60 180 600]

The wall time of the whole command, from the shell, on 2,000 pictures of CIFAR-10, for rungs that train a network.
To reach: never later; at most 5 % or 3 s earlier (whichever is more) unless the run says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import measure

EARLY_SHARE, EARLY_SECONDS = 0.05, 3.0


def reason(run: Path) -> str:
    """Return why a run ended early, as its events tell it; empty where they do not."""
    lines = (run / "events.jsonl").read_text().splitlines()
    told = [event for event in map(json.loads, lines) if event.get("name") == "ended_early"]
    return str(told[-1]["evidence"]) if told else ""


def timed(method: str, seconds: int, wish: Any) -> dict[str, Any]:
    """Run once and return how long it took, and whether that is as promised."""
    whole = measure.unpacked("cifar10", wish.data, wish.work)
    pictures = measure.subset(whole, wish.work / "cifar_2000", {"train": 200, "test": 200})
    folder = measure.fresh(wish.work / "runs" / f"budget_{method}_{seconds}")
    env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    command: list[str | Path] = [measure.tellapart(), "train", pictures, "--method", method]
    command += ["--backbone", wish.backbone] if method == "finetune" else []
    done = measure.ran([*command, "--budget", str(seconds), "--out", folder / "run", "--json"], env)
    early = seconds - done.seconds
    why = reason(folder / "run")
    held = early >= 0.0 and (early <= max(EARLY_SECONDS, EARLY_SHARE * seconds) or bool(why))
    return {"method": method, "budget_s": seconds, "took_s": done.seconds, "early_s": early, "held": held, "why": why}


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--budgets", type=int, nargs="*", default=[60, 180, 600])
    parser.add_argument("--methods", nargs="*", default=["finetune", "scratch"])
    wish = parser.parse_args()
    rows = [timed(method, seconds, wish) for seconds in wish.budgets for method in wish.methods]
    measure.told("budget", rows, to_reach={"late_s": 0, "early": "5 % or 3 s, or it says why"})


if __name__ == "__main__":
    main()
