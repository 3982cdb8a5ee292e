# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation names tests and scenarios that exist, and its links lead to files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md"))
    if path.name != "CHANGELOG.md"
)
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:tests|molecule|scripts|playbooks|docs)/[\w./-]+\.(?:py|yml|md))`")


def named_tests(page: Path) -> list[tuple[str, str]]:
    """The file and function of each test that a page names."""
    return [(match[1], match[2]) for match in TEST.finditer(page.read_text())]


def located(name: str) -> Path:
    """Where a test file is: paths are relative to the root or to tests/unit."""
    return ROOT / name if name.startswith(("tests/", "molecule/")) else ROOT / "tests" / "unit" / name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_named_test_exists(page: Path) -> None:
    missing = [
        f"{name}::{function}"
        for name, function in named_tests(page)
        if not (located(name).is_file() and re.search(rf"^ *def {function}\(", located(name).read_text(), re.MULTILINE))
    ]
    assert not missing


def test_the_threat_model_names_a_test_for_each_attacker() -> None:
    sections = (ROOT / "docs" / "security.md").read_text().split("\n## ")[1:]
    without = [section.splitlines()[0] for section in sections if not TEST.search(section)]
    assert without == ["Not covered"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_and_each_named_file_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    files = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    assert not links + files


def test_each_situation_has_a_test_or_is_marked() -> None:
    """The last column of docs/scenarios.md names scenarios, tests, or `not tested`."""
    lines = (ROOT / "docs" / "scenarios.md").read_text().splitlines()
    cells = [line.rstrip(" |").rsplit("|", 1)[1].strip() for line in lines if line.startswith("| ")]
    scenarios = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    places = [cell for cell in cells if cell not in ("where", "not tested")]
    assert places
    for place in places:
        names = re.findall(r"`([^`]+)`", place)
        assert names, place
        assert {name for name in names if "::" not in name} <= scenarios, place


HEADINGS = ["Requirements", "Variables", "Tags", "Handlers and facts", "Examples", "What is tested"]


@pytest.mark.parametrize(
    "page",
    sorted(path for path in ROOT.glob("roles/*/README.md") if "\nInternal" not in path.read_text()),
    ids=lambda path: path.parent.name,
)
def test_readme_of_each_role_has_the_same_sections(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert lines[0] == f"# kaido.ollama.{page.parent.name}"
    assert [
        heading for heading in (line[3:] for line in lines if line.startswith("## ")) if heading in HEADINGS
    ] == HEADINGS


def test_the_readme_lists_each_role_module_and_playbook() -> None:
    text = (ROOT / "README.md").read_text()
    public = [path.parent.name for path in ROOT.glob("roles/*/README.md") if "\nInternal" not in path.read_text()]
    modules = [path.stem for path in ROOT.glob("plugins/modules/*.py")]
    playbooks = [f"kaido.ollama.{path.stem}" for path in ROOT.glob("playbooks/*.yml")]
    assert public
    assert not [name for name in (*public, *modules, *playbooks) if f"`{name}`" not in text]


@pytest.mark.parametrize("path", ["README.md", "docs/install.md"])
def test_the_collection_is_installed_outside_of_the_checkout(path: str) -> None:
    """In the checkout `ansible.cfg` has a path of collections that no other directory uses."""
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL))
    before = commands.split("ansible-galaxy collection install ollama/dist/", maxsplit=1)
    assert len(before) == 2
    assert not re.search(r"\bcd ", before[0])
