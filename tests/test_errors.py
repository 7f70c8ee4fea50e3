"""Every code that a user may meet has its section in docs/errors.md, with a fix; the command line says it briefly."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tellapart import errors
from tellapart.cli import main
from tellapart.cli.verbs import VERBS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tellapart"
PAGE = ROOT / "docs" / "errors.md"
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# Functions and classes that take a code, and which argument it is.
TAKE_A_CODE = {
    **dict.fromkeys(("Refusal", "Stranger", "refused", "_picture_error"), 0),
    **{name: 0 for name in errors.__all__ if name.endswith("Error")},
    "Excluded": 1,
    "_refusal": 1,
}
# Where a code is handed on that was written down elsewhere.
HANDED_ON = {
    *(
        "api.py",
        "data/archive_members.py",
        "data/facts.py",
        "data/left_out.py",
        "data/manifest.py",
        "data/pool.py",
        "data/scan.py",
        "driving.py",
    ),
    *(
        "images/examine.py",
        "images/guard.py",
        "images/guarded.py",
        "images/header.py",
        "learn/backbones_export.py",
        "learn/embed.py",
    ),
    *(
        "runtime/onnx_bytes.py",
        "runtime/predictor.py",
        "runtime/sources.py",
        "cli/failures.py",
        "cli/options.py",
        "ladder/climb.py",
        "ladder/run.py",
    ),
}
NO_CODE = {"MissingExtraError", "InterruptedRunError", "OutOfTimeError"}


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def written(text: str) -> Iterator[tuple[str | None, int]]:
    """Yield (code, line) for every code that a source file raises or records, (None, line) for one it hands on."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name == "refused" and isinstance(node.func, ast.Name):
                continue  # a function that has its code itself
            if name in TAKE_A_CODE and name not in NO_CODE:
                position = TAKE_A_CODE[name]
                named = [word.value for word in node.keywords if word.arg == "code"]
                given = [*node.args[position : position + 1], *named]
                if given and isinstance(given[0], ast.Constant):
                    yield str(given[0].value), node.lineno
                elif given:
                    yield None, node.lineno
            elif name == "__init__" and node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value), node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            if any(name_of(target) == "code" for target in node.targets):
                yield str(node.value.value), node.lineno
        elif isinstance(node, ast.arg | ast.FunctionDef) and not isinstance(node, ast.arg):
            defaults = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
            for argument, default in defaults:
                if argument.arg == "code" and isinstance(default, ast.Constant):
                    yield str(default.value), node.lineno
        elif isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if name_of(target) == "_REFUSED":
                for value in node.value.values:
                    if isinstance(value, ast.Tuple) and isinstance(value.elts[0], ast.Constant):
                        yield str(value.elts[0].value), node.lineno


def codes() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, line in written(path.read_text(encoding="utf-8")):
            if code is not None and not code.isdigit():
                found.setdefault(code, f"{path.relative_to(SOURCE)}:{line}")
    return found


def sections() -> dict[str, str]:
    parts = re.split(r"^### (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_codes_are_found_however_they_are_written() -> None:
    text = """
raise DataError("one", "words")
raise check.refused("two", "words")
excluded.append(Excluded(path, "three", "words"))
class E(X):
    def __init__(self):
        super().__init__("four", "words")
        self.code = "five"
def _refusal(reason, code="six"): raise BundleError(code, reason)
_REFUSED = {1: ("seven", "words")}
"""
    assert {code for code, _ in written(text)} == {"one", "two", "three", "four", "five", "six", "seven", None}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_code_is_written_where_it_can_be_found(path: Path) -> None:
    lines = [line for code, line in written(path.read_text(encoding="utf-8")) if code is None]
    assert not lines or str(path.relative_to(SOURCE)) in HANDED_ON, f"{path.name}, lines {lines}: write the code itself"


def test_every_code_has_its_section_and_none_is_stale() -> None:
    raised = codes()
    assert {code: place for code, place in raised.items() if not CODE.fullmatch(code)} == {}
    assert {code: place for code, place in raised.items() if code not in sections()} == {}
    assert sorted(set(sections()) - set(raised)) == []


@pytest.mark.parametrize("code", sorted(sections()))
def test_a_section_says_cause_and_fix(code: str) -> None:
    cause, _, fix = sections()[code].partition("**Fix:**")
    assert len(cause.split()) >= 4
    assert fix.strip()


def test_errors_of_ours_are_no_names_of_python() -> None:
    assert not set(errors.__all__) & set(dir(builtins))


GOLDEN = [
    (
        ["train", "absent"],
        "absent does not exist. Give a folder of pictures, or a table that lists them. [no_data]",
    ),
    (["trian"], "'trian' is not a verb. Did you mean 'train'? Verbs: {verbs}. [unknown_verb]"),
    (
        ["train", "set", "--out", "set/run"],
        "--out set/run lies inside the pictures' folder set, where nothing is ever written. Choose a folder outside of "
        "it. [out_inside_data]",
    ),
    (
        ["train", "set"],
        "Training needs two classes or more, and all pictures are in one: cat. Add pictures of what it is to be told "
        "apart from. [one_class]",
    ),
    (
        ["train", "nested"],
        "cat/small/ holds pictures inside a class folder, so that nested can be read in two ways: the classes cat, "
        "dog, or the classes cat/small. Say which by --nested first (the outer folders) or --nested path (the whole "
        "paths). [nested_classes]",
    ),
    (
        ["train", "labels.csv"],
        "labels.csv names 1 file(s) missing from {here}: gone.png. Correct the paths (they are relative to the table's "
        "folder), or leave these out by --skip-missing. [missing_files]",
    ),
    (
        ["train", "set", "--recipe", "recipe.toml"],
        "In recipe.toml: 'budgte' is not an option. Did you mean 'budget'? --seed got -1; input should be greater than "
        "or equal to 0. Change it and run again. [bad_option]",
    ),
    (
        ["train", "bad.zip"],
        "The archive bad.zip is damaged, or no zip or tar archive (empty file). Fetch or make it anew. "
        "[damaged_archive]",
    ),
    (
        ["predict", "set", "set/cat/1.png"],
        "set has no card.json, so it is not a bundle. Give the folder named bundle in a run folder. "
        "[bundle_missing_file]",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), GOLDEN, ids=[said.rpartition("[")[2][:-1] for _, said in GOLDEN])
def test_a_failure_is_one_line_that_ends_with_its_code(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("set/cat/1.png", "nested/cat/small/1.png", "nested/dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("path,label\ngone.png,cat\n")
    (tmp_path / "recipe.toml").write_text("seed = -1\n[fit]\nbudgte = 3\n")
    (tmp_path / "bad.zip").write_bytes(b"")
    late = ["--budget", "9h"] if arguments[0] == "train" else []  # the budget counts from the process's creation
    assert main([*arguments, *late]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == f"tellapart: {said.format(here=tmp_path, verbs=', '.join(VERBS))}"
    assert "Traceback" not in captured.err
    assert {path.name for path in tmp_path.iterdir()} == {"set", "nested", "labels.csv", "recipe.toml", "bad.zip"}
    assert said.rpartition("[")[2][:-1] in sections()
