# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of module_utils import only from packages below; docs/architecture.md lists all of their files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

UTILS = ROOT / "plugins" / "module_utils"
FILES = sorted(path for path in UTILS.rglob("*.py") if path.name != "__init__.py")


def documented() -> dict[str, set[str]]:
    """The packages of the table in docs/architecture.md, from the top down, with their files."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.split("## Layers of `plugins/module_utils`", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(_\w+)` \| (.*) \|$", table, re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", files)) for package, files in rows}


def test_the_table_lists_every_file() -> None:
    there: dict[str, set[str]] = {}
    for path in FILES:
        there.setdefault(path.parent.name, set()).add(path.stem)
    assert documented() == there


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(UTILS)))
def test_imports_go_down(path: Path) -> None:
    order = list(documented())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            package = (node.module or "").split(".")[0]
            assert order.index(package) > order.index(path.parent.name), f"{path.name} imports {package}"
        assert not (isinstance(node, ast.ImportFrom) and node.level > 2)


def test_only_one_file_starts_programs() -> None:
    """`command` has a timeout, a limit for the output and a fixed locale."""
    starting = re.compile(
        r"^\s*(?:import subprocess|from subprocess)|\.run_command\(|\bos\.(?:system|popen|exec\w+|spawn\w+)\(",
        re.MULTILINE,
    )
    found = [path.name for path in (ROOT / "plugins").rglob("*.py") if starting.search(path.read_text())]
    assert found == ["command.py"]


def test_only_one_file_of_the_unit_tests_starts_ansible() -> None:
    programs = re.compile(r'parent / ["]ansible|with_name\(["]ansible')
    found = [path.name for path in (ROOT / "tests/unit").rglob("*.py") if programs.search(path.read_text())]
    assert found == []


def sent(path: Path) -> set[Path]:
    """Return the files of the collection that Ansible sends together with a module."""
    found: set[Path] = set()
    pending = [path]
    while pending:
        source = pending.pop()
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            folder = source.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            files = [folder.with_suffix(".py"), *(folder / f"{alias.name}.py" for alias in node.names)]
            new = {file for file in files if file.is_file()} - found
            found |= new
            pending += new
    return found


@pytest.mark.parametrize("name", ["service_info", "service_absent", "gateway_backend", "gateway_certificate"])
def test_modules_of_services_do_not_contain_the_server_and_its_models(name: str) -> None:
    """They run on every host in each converge, and each start of a module compiles what it imports."""
    files = sent(ROOT / "plugins" / "modules" / f"{name}.py")
    assert UTILS / "_core" / "errors.py" in files
    assert not {file.parent.name for file in files} & {"_preflight", "_models", "_gpu", "_release"}
    assert not [file.name for file in files if "ansible.module_utils.urls" in file.read_text()]
