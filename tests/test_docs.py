"""The docs are true: pages name every option, links lead somewhere, examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart.cli.verbs import VERBS, command

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tellapart"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def option_table(verb: str) -> str:
    """Return the table of a verb's options that its page holds: names and help from where they are declared."""
    lines = ["| option | meaning |", "|---|---|"]
    for parameter in command(verb).params:
        if parameter.param_type_name == "option":
            metavar = f" {parameter.metavar}" if parameter.metavar else ""
            names = " / ".join(f"`{name}{metavar}`" for name in (*parameter.opts, *parameter.secondary_opts))
            lines.append(f"| {names} | {parameter.help} |".replace(metavar, metavar.replace("|", r"\|"), 1))
    return "\n".join(lines)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_that_names_each_of_its_options(verb: str) -> None:
    page = (ROOT / "docs" / f"{verb}.md").read_text(encoding="utf-8")
    assert f"tellapart {verb}" in page
    assert option_table(verb) in page, f"docs/{verb}.md is to hold this table:\n\n{option_table(verb)}\n"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(link)
    assert broken == []


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield (module, name, docstring) for every docstring with an example; nothing is imported for that."""
    for path in sorted(SOURCE.rglob("*.py")):
        inner = path.relative_to(SOURCE).with_suffix("").parts
        module = ".".join(("tellapart", *(inner[:-1] if inner[-1] == "__init__" else inner)))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield module, getattr(node, "name", "module"), text


@pytest.mark.parametrize(
    ("module", "name", "text"), [pytest.param(*row, id=f"{row[0]}:{row[1]}") for row in examples()]
)
def test_examples_run(
    module: str, name: str, text: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs in a folder of its own that holds `photos/`: a folder of pictures for each class."""
    if name == "tune":
        pytest.importorskip("optuna", reason="needs the extra [tune]")
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names = dict(vars(importlib.import_module(module)))
    example = doctest.DocTestParser().get_doctest(text, names, f"{module}.{name}", None, 0)
    told: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert outcome.failed == 0, "".join(told)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_of_the_api_has_an_example(verb: str) -> None:
    function = getattr(importlib.import_module("tellapart.api"), verb.replace("-", "_"))
    assert (function.__module__, function.__name__) in {(module, name) for module, name, _ in examples()}
