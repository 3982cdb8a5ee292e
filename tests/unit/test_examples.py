# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example in the documentation of users is valid: YAML, tasks, plays, variables and options that exist."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.playbook import ansible

BLOCK = re.compile(r"^( *)```yaml\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/**/*.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
    if BLOCK.search(path.read_text())
)
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
# Variables that playbooks read, beside the options of roles.
PLAYBOOK_VARIABLES = {"ollama_bundle", "ollama_lock", "ollama_update", "ollama_verify"}


class Loader(yaml.SafeLoader):
    """Reads the tags that Ansible adds to YAML."""


def scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> t.Any:
    """Return the text of a tagged value."""
    return loader.construct_scalar(node)


Loader.add_constructor("!unsafe", scalar)
Loader.add_constructor("!vault", scalar)


def blocks(page: Path) -> list[str]:
    """The YAML examples of a page."""
    return [
        re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE) if match[1] else match[2]
        for match in BLOCK.finditer(page.read_text())
    ]


def module_documentation(path: Path, name: str) -> str:
    """The value of a documentation string of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return str(ast.literal_eval(node.value))
    return ""


def read(example: str) -> t.Any:
    """Read an example as Ansible would."""
    return yaml.load(example, Loader=Loader)


def variables() -> set[str]:
    """The options of all entry points of all roles."""
    names = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            names |= set(entry.get("options") or {})
    return names


def playbook(examples: list[str]) -> str:
    """One playbook of examples: plays as they are, tasks in a play."""
    plays = []
    for example in examples:
        loaded = read(example)
        if not isinstance(loaded, list):
            continue
        if any("hosts" in item for item in loaded):
            plays.append(example.strip().removeprefix("---\n"))
        else:
            body = "\n".join(f"    {line}" for line in example.strip().splitlines() if line != "---")
            plays.append(f"- name: Examples\n  hosts: all\n  tasks:\n{body}")
    return "\n\n".join(plays) + "\n"


def syntax_errors(tmp_path: Path, text: str) -> str:
    """The errors of ansible-playbook about a playbook; '' if it is valid."""
    path = tmp_path / "examples.yml"
    path.write_text(text)
    done = ansible("ansible-playbook", "-i", "localhost,", "--syntax-check", path)
    return "" if done.status == 0 else done.stderr


def tasks(loaded: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Yield the tasks of plays and lists of tasks, those in blocks included."""
    for item in loaded if isinstance(loaded, list) else []:
        yield item
        for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks(item.get(key))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_of_pages_are_variables_or_plays(page: Path) -> None:
    known = variables()
    for example in blocks(page):
        loaded = read(example)
        assert isinstance(loaded, (dict, list)), example
        if isinstance(loaded, dict):
            unknown = {name for name in loaded if re.match(r"(ollama|gpu_driver)_", name)} - known
            groups = {"ollama_servers", "ollama_clients", "ollama_gateways"}
            unknown = {
                name for name in unknown - groups if not any(name.startswith(start) for start in PLAYBOOK_VARIABLES)
            }
            assert not unknown, example


def test_plays_and_tasks_of_pages_pass_the_syntax_check(tmp_path: Path) -> None:
    text = playbook([example for page in PAGES for example in blocks(page)])
    assert "- name:" in text
    assert syntax_errors(tmp_path, text) == ""


def test_examples_of_modules_pass_the_syntax_check(tmp_path: Path) -> None:
    text = playbook([module_documentation(path, "EXAMPLES") for path in MODULES])
    assert text.count("- name: Examples") + text.count("hosts:") >= len(MODULES)
    assert syntax_errors(tmp_path, text) == ""


def test_a_broken_example_is_found(tmp_path: Path) -> None:
    assert syntax_errors(tmp_path, playbook(["- name: Broken\n  no_such_namespace.no_such.module:\n"]))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_options_in_examples_of_modules_exist(path: Path) -> None:
    """The syntax check does not read the options of modules."""
    documented = yaml.safe_load(module_documentation(path, "DOCUMENTATION"))
    known = set(documented.get("options") or {})
    for fragment in documented.get("extends_documentation_fragment") or []:
        file, _dot, name = fragment.removeprefix("kaido.ollama.").partition(".")
        source = ROOT / "plugins" / "doc_fragments" / f"{file}.py"
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (name or "documentation").upper():
                known |= set(yaml.safe_load(ast.literal_eval(node.value)).get("options") or {})
    for task in tasks(read(module_documentation(path, "EXAMPLES"))):
        used = task.get(f"kaido.ollama.{path.stem}") or {}
        assert set(used) <= known, task


def test_the_example_inventory_is_complete() -> None:
    """Its groups are those of site.yml, its variables exist, and no host needs a GPU."""
    hosts = yaml.safe_load((ROOT / "inventory" / "hosts.yml").read_text())
    assert set(hosts) == {"ollama_servers", "ollama_clients"}
    for path in (ROOT / "inventory").glob("*_vars/*.yml"):
        content = yaml.safe_load(path.read_text())
        assert set(content) <= variables()
        assert content.get("ollama_gpu") != "required"
