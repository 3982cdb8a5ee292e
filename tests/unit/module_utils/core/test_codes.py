# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/failure-codes.md has each failure code that the plugins raise, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import errors
from ansible_collections.kaido.ollama.plugins.module_utils._server import api

from tests.conftest import ROOT

FILES = sorted((ROOT / "plugins").rglob("*.py"))
CODE = re.compile(r"[a-z]+(?:_[a-z0-9]+)*")
Makers = dict[str, tuple[int, str]]


def table() -> list[list[str]]:
    """The rows of the page: code, meaning, remedy."""
    lines = (ROOT / "docs" / "failure-codes.md").read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").replace("`", "", 2).split(" | ") for line in lines if line.startswith("| `")]


def documented() -> set[str]:
    return {row[0] for row in table()}


def parameters(function: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return names[1:] if names[:1] == ["self"] else names


def makers(trees: list[ast.Module]) -> Makers:
    """Functions that take a code: position of the argument, and what they put in front of it."""
    found: Makers = {"OllamaError": (0, ""), "Problem": (0, "")}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and "code" in parameters(node):
                joined = [part for part in ast.walk(node) if isinstance(part, ast.JoinedStr)]
                prefixes = [ast.unparse(part)[2:-7] for part in joined if ast.unparse(part).endswith("_{code}'")]
                found[node.name] = (parameters(node).index("code"), prefixes[0] if prefixes else "")
                # One that passes its code to another maker, such as refuse(code, …), has the prefix of that one.
                calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and part.args]
                for name in [call.func.id for call in calls if isinstance(call.func, ast.Name)]:
                    if name != node.name and found.get(name, (0, ""))[1]:
                        found[node.name] = (found[node.name][0], found[name][1])
    return found


def constants(node: ast.AST) -> Iterator[str]:
    """The codes that an expression can have; not those that it compares with."""
    if isinstance(node, ast.IfExp):
        yield from (*constants(node.body), *constants(node.orelse))
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        values = node.func.value.values if isinstance(node.func.value, ast.Dict) else []
        for part in (*values, *node.args[1:]):
            yield from constants(part)


def codes_in(tree: ast.Module, known: Makers) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            position, prefix = known.get(name, (-1, ""))
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if 0 <= position < len(node.args):
                given.append(node.args[position])
            for value in given:
                yield from (prefix + code for code in constants(value))
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["code"]:
            yield from constants(node.value)
        elif isinstance(node, ast.FunctionDef) and "code" in parameters(node) and node.args.defaults:
            named = zip(reversed(parameters(node)), reversed(node.args.defaults), strict=False)
            yield from (code for name, value in named if name == "code" for code in constants(value))


def raised() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    public = {name: maker for name, maker in makers(trees).items() if not name.startswith("_")}
    # A private function makes codes only in its own file.
    found = {code for tree in trees for code in codes_in(tree, {**public, **makers([tree])})}
    return found | {code for _pattern, code in api._STREAM_ERRORS} | {*errors._ERRNO.values()} | of_roles()


def of_roles() -> set[str]:
    """The codes that tasks of roles and playbooks give to module fail."""
    paths = [*(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    texts = (path.read_text(encoding="utf-8") for path in paths)
    lines = [line for text in texts for line in re.findall(r"^ +code: (.+)$", text, re.MULTILINE)]
    # A template selects one of several codes, which are in quotes.
    codes = [re.findall(r"'(\w+)'", line) if "{{" in line else [line] for line in lines]
    return {"task_failed"}.union(*codes)


def test_list_has_each_code_that_is_raised() -> None:
    assert sorted(raised() - documented()) == []


def test_each_code_of_the_list_is_raised() -> None:
    assert sorted(documented() - raised()) == []


def test_list_is_sorted_and_each_row_is_complete() -> None:
    rows = table()
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert not [row for row in rows if not (CODE.fullmatch(row[0]) and row[1].endswith(".") and row[2].endswith("."))]


def test_a_code_names_its_subject_first() -> None:
    states = [
        "bad",
        "cannot",
        "foreign",
        "incomplete",
        "invalid",
        "missing",
        "no",
        "not",
        "unknown",
        "unsupported",
        "wrong",
    ]
    assert not [code for code in documented() if "_" not in code or code.split("_")[0] in states]


def test_no_two_codes_have_the_same_meaning() -> None:
    meanings = [row[1] for row in table()]
    assert len(meanings) == len(set(meanings))


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_documented_codes_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notes = re.findall(r"^  - The codes in RV\(failure\.code\) are (.*?)(?=^  - |^\w)", text, re.MULTILINE | re.DOTALL)
    assert sorted({code for note in notes for code in re.findall(r"C\((\w+)\)", note)} - documented()) == []
