"""A run that kills itself: python -m tests.promises.kill_child PLAN DATA OUT OPTIONS, as JSON, PLAN and OPTIONS.

PLAN is `{"event": n}`: dead when the n-th event is told, progress included; or `{"call": name, "number": n}`: dead
before (`"late"`: after) the n-th call of os.fsync, os.replace or os.rename, of those since `"stage"` began and on files
with `"file"` in their names, where these are given; or `{}`: it lives, and prints how many events were told and how
often each of these was called. With `"share": x` it finds so much of a processor free.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from typing import Any

import tellapart
from tellapart.events import Event, StageBegan
from tellapart.ladder import rungs

CALLS = ("fsync", "replace", "rename")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def file_of(call: str, arguments: tuple[Any, ...]) -> str:
    """Return the name of the file that a call is about."""
    return os.readlink(f"/proc/self/fd/{arguments[0]}") if call == "fsync" else str(arguments[1])


def main() -> None:
    plan, data, out, options = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    seen, fitting, begun = itertools.count(1), itertools.count(1), {""}

    def watch(event: Event) -> None:
        if isinstance(event, StageBegan):
            begun.add(event.stage)
        if next(seen) == plan.get("event"):
            die()

    calls = dict.fromkeys(CALLS, 0)

    def counting(name: str) -> None:
        real = getattr(os, name)

        def counted(*arguments: Any, **given: Any) -> Any:
            calls[name] += 1
            fits = name == plan.get("call") and plan.get("stage", "") in begun
            fits = fits and plan.get("file", "") in file_of(name, arguments)
            now = fits and next(fitting) == plan["number"]
            if now and not plan.get("late"):
                die()
            result = real(*arguments, **given)
            if now:
                die()
            return result

        setattr(os, name, counted)

    for name in CALLS:
        counting(name)
    if "share" in plan:
        rungs.processor_share = lambda: plan["share"]  # type: ignore[attr-defined]
    tellapart.train(data, out=out, resume=True, watch=watch, **options)
    print(json.dumps({"event": next(seen) - 1, **calls}))


if __name__ == "__main__":
    main()
