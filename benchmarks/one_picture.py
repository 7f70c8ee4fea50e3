"""`tellapart predict` of one picture from the shell: python -m benchmarks.one_picture

To reach: 1.5 s, by the median.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import measure


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=11)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    wish = parser.parse_args()
    data = measure.unpacked("hymenoptera", wish.data, wish.work)
    folder = measure.fresh(wish.work / "runs" / "one_picture")
    env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    train: list[str | Path] = [
        measure.tellapart(),
        "train",
        data,
        "--out",
        folder / "run",
        "--effort",
        "quick",
        "--json",
    ]
    bundle = measure.ran([*train, "--backbone", wish.backbone], env).json["bundle"]
    picture = next((data / "test").rglob("*.jpg"))
    seconds = [measure.ran([measure.tellapart(), "predict", bundle, picture]).seconds for _ in range(wish.repeat)]
    row = {"median_s": measure.median(seconds), "fastest_s": min(seconds), "slowest_s": max(seconds)}
    measure.told("one_picture", [row], n=wish.repeat, to_reach=1.5)


if __name__ == "__main__":
    main()
