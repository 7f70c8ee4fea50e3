"""The program ends with its exit code at once, and with all that was registered for its end done."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """if True:
    import atexit, sys, types
    class Slow:
        def __del__(self):
            print("taken apart")
    slow = Slow()
    if {loaded}:
        sys.modules["torch"] = types.ModuleType("torch")
    atexit.register(print, "registered")
    from tellapart.cli import script
    sys.argv = ["tellapart", *{arguments}]
    script()
    """


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["no-such-verb"], 2)])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_process_that_loaded_torch_is_not_taken_apart(arguments: list[str], code: int, loaded: bool) -> None:
    program = PROGRAM.format(loaded=loaded, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    lines = done.stdout.splitlines()
    assert "registered" in lines
    assert ("taken apart" in lines) is not loaded
    assert ("tellapart 0" in done.stdout) is (code == 0)
    assert ("no-such-verb" in done.stderr) is (code == 2)
