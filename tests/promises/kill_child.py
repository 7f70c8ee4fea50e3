"""A run that kills itself: python -m tests.promises.kill_child PLAN DATA OUT OPTIONS, as JSON, PLAN and OPTIONS.

PLAN is `{"event": n}`: dead when the n-th event is told, progress included; or `{"call": name, "number": n}`: dead
before (`"late"`: after) the n-th call of os.fsync or os.replace; or `{}`: it lives.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from typing import Any

import tellapart
from tellapart.events import Event


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    plan, data, out, options = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    seen = itertools.count(1)

    def watch(_: Event) -> None:
        if next(seen) == plan.get("event"):
            die()

    if "call" in plan:
        real, calls = getattr(os, plan["call"]), itertools.count(1)

        def counted(*arguments: Any, **given: Any) -> Any:
            now = next(calls) == plan["number"]
            if now and not plan.get("late"):
                die()
            result = real(*arguments, **given)
            if now:
                die()
            return result

        setattr(os, plan["call"], counted)
    tellapart.train(data, out=out, resume=True, watch=watch, **options)
    print(next(seen) - 1)


if __name__ == "__main__":
    main()
