"""Public names are few, sorted, documented, and all there is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tellapart

SOURCE = Path(__file__).parents[1] / "src" / "tellapart"
FILES = sorted(SOURCE.rglob("*.py"))


def exported(tree: ast.Module) -> list[str] | None:
    """Return the literal `__all__` of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(tree: ast.Module) -> dict[str, ast.FunctionDef | ast.ClassDef | None]:
    """Return every name bound at the top of a module: its definition where it is a function or a class."""
    found: dict[str, ast.FunctionDef | ast.ClassDef | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset in (0, 4):
            found |= dict.fromkeys(alias.asname or alias.name.split(".")[0] for alias in node.names)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= dict.fromkeys(n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = None
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_public_names_are_listed_and_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module says what it is for"
    names = defined(tree)
    public = {name for name, node in names.items() if node is not None and not name.startswith("_")}
    listed = exported(tree)
    if listed is None:
        assert public == set(), "public functions and classes are listed in __all__"
        return
    assert len(listed) == len(set(listed))
    assert public <= set(listed), "public functions and classes are listed in __all__"
    assert set(listed) <= set(names), "what __all__ lists is there"
    assert not [name for name in listed if name.startswith("_") and name != "__version__"]
    for name in listed:
        node = names[name]
        assert node is None or ast.get_docstring(node), f"{name} has no docstring"


def test_the_package_gives_the_verbs_and_nothing_by_accident() -> None:
    assert tellapart.__all__ == sorted(tellapart.__all__)
    assert dir(tellapart) == tellapart.__all__
    assert {"demo", "evaluate", "predict", "train"} <= set(tellapart.__all__)
    for name in tellapart.__all__:
        assert getattr(tellapart, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tellapart.__getattr__("trian")
