"""Sets of pictures that belong together, joined by any of several keys."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

__all__ = ["components"]


def components(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Return for each item the position of the first item that equal keys join it to, directly or through others.

    Union-find with path halving: R. E. Tarjan, J. van Leeuwen, J. ACM 31 (1984) 245-281.
    """
    parent = list(range(len(keys)))

    def find(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[Hashable, int] = {}
    for item, own in enumerate(keys):
        for key in own:
            one, two = find(first.setdefault(key, item)), find(item)
            parent[max(one, two)] = min(one, two)
    return [find(item) for item in range(len(keys))]
