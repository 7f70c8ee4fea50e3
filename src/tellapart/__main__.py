"""`python -m tellapart` is the command line."""

from __future__ import annotations

from tellapart.cli import script

if __name__ == "__main__":
    script()
