"""`tellapart --help` against a bare typer app with as many commands, in turns: python -m benchmarks.help_time

To reach: 1.3 times the bare app, by the medians.
"""

from __future__ import annotations

import sys

from benchmarks import measure
from tellapart.cli.verbs import VERBS


def bare_app() -> str:
    """Return a program that is no more than typer: the same verbs with the same help, nothing behind them."""
    lines = ["import typer", "app = typer.Typer(add_completion=False)"]
    for verb, help_text in VERBS.items():
        lines.append(f"@app.command({verb!r})\ndef {verb.replace('-', '_')}(data: str) -> None:\n    {help_text!r}")
    return "\n".join([*lines, "app()"])


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=15)
    wish = parser.parse_args()
    program = measure.fresh(wish.work / "help") / "bare.py"
    program.write_text(bare_app())
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(wish.repeat):
        bare.append(measure.ran([sys.executable, program, "--help"]).seconds)
        ours.append(measure.ran([measure.tellapart(), "--help"]).seconds)
    # The fastest of each is what the machine can do undisturbed; the median is what a user sees on it.
    pairs: list[tuple[str, float, float]] = [
        ("median", measure.median(ours), measure.median(bare)),
        ("fastest", min(ours), min(bare)),
    ]
    rows = [{"of": name, "ours_s": a, "bare_s": b, "ratio": a / b} for name, a, b in pairs]
    measure.told("help_time", rows, n=wish.repeat, to_reach=1.3)


if __name__ == "__main__":
    main()
