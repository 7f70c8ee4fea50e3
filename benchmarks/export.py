"""What export gives for a backbone on a set: python -m benchmarks.export [--only SET/BACKBONE ...]

For each set and backbone a quick run, then `tellapart export --precision int8` and, where OpenVINO is installed, the
same with `--to openvino`. Sizes are those of model.onnx alone; speeds are measured in turns with fp32, so that their
ratio is paired. To reach: a drop of 0.5 points at the most on the pictures that judge, 1.5 times fp32 by onnxruntime,
a quarter of the size. Accuracy on the test split is told beside it, and nothing is chosen by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import measure
from tellapart.runtime.openvino_session import has_openvino

SETS = ("clothing_small", "hymenoptera")
BACKBONES = ("mobilenetv2_100", "tf_efficientnet_lite0")


def trained(name: str, backbone: str, wish: Any) -> Path:
    """Return the bundle of a quick run, made on the first call."""
    run = wish.work / "runs" / f"export_{name}_{backbone}"
    if not (run / "report.html").is_file():
        data = wish.work / "data" / name if (wish.work / "data" / name).is_dir() else None
        data = data or measure.unpacked(name, wish.data, wish.work)
        measure.ran(
            [
                measure.tellapart(),
                "train",
                data,
                "--out",
                measure.fresh(run),
                "--backbone",
                backbone,
                "--method",
                "probe",
                "--effort",
                "quick",
                "--json",
            ],
            {"TELLAPART_WEIGHTS": wish.weights.resolve()},
        )
    return Path(run / "bundle")


def tested(bundle: Path, data: Path) -> float:
    """Return the accuracy of a bundle on the set's test split."""
    return float(measure.ran([measure.tellapart(), "evaluate", bundle, data, "--json"]).json["accuracy"])


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=1)
    parser.add_argument("--only", nargs="*", help="such as clothing_small/mobilenetv2_100")
    parser.add_argument("--test", action="store_true", help="measure on the test split too")
    wish = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in SETS:
        for backbone in BACKBONES:
            if wish.only and f"{name}/{backbone}" not in wish.only:
                continue
            bundle = trained(name, backbone, wish)
            for number in range(wish.repeat):
                out = measure.fresh(wish.work / "runs" / "exported")
                targets = ("onnx", "openvino") if has_openvino() else ("onnx",)
                for to in targets:
                    command: list[str | Path] = [
                        measure.tellapart(),
                        "export",
                        bundle,
                        "--out",
                        out / to,
                        "--to",
                        to,
                        "--json",
                    ]
                    try:
                        told = measure.ran([*command, "--precision", "int8"]).json
                    except SystemExit as error:
                        print(str(error)[-600:])
                        continue
                    what = {"set": name, "backbone": backbone, "to": to, "round": number}
                    rows += [{**what, **row} for row in table(told)]
                    if wish.test:
                        data = wish.work / "data" / name
                        rows[-1]["test"] = tested(out / to, data) - tested(bundle, data)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    measure.told(
        "export",
        [{key: row.get(key) for key in keys} for row in rows],
        to_reach={"drop": 0.5, "times": 1.5, "size": 0.25},
    )


def table(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each form: its ratios are to fp32 by onnxruntime of the same call."""
    [plain] = [form for form in told["forms"] if (form["precision"], form["runtime"]) == ("fp32", "onnxruntime")]
    rows = []
    for form in told["forms"]:
        speed, judged = form["speed"], form["judged"]
        rows.append(
            {
                "form": form["precision"],
                "runtime": form["runtime"],
                "MB": form["bytes"] / 1e6,
                "size": form["bytes"] / plain["bytes"],
                "ms": speed["one_ms"],
                "ms in 8": speed["batch_ms"],
                "a second": speed["per_second"],
                "times": plain["speed"]["one_ms"] / speed["one_ms"],
                "times, all": speed["per_second"] / plain["speed"]["per_second"],
                "memory MB": None if form["peak_bytes"] is None else form["peak_bytes"] / 1e6,
                "right": judged["accuracy"],
                "n": judged["n"],
                "change": judged["change"],
                "low": judged["change_low"],
                "high": judged["change_high"],
                "in float": form["in_float"],
                "test": None,
            }
        )
    return rows


if __name__ == "__main__":
    main()
