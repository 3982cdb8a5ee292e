# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the collection agree with each other: specs with defaults, modules with the action group."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from scripts import dist, tree
from tests.conftest import ROOT
from tests.unit.playbook import ansible

ROLES = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
TASK_FILES = sorted(
    path for folder in ("roles", "playbooks", "molecule") for path in (ROOT / folder).rglob("*.yml") if path.is_file()
)

per_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path: Path) -> dict[str, t.Any]:
    """Read a YAML file; {} where there is none."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: Path) -> dict[str, dict[str, t.Any]]:
    """The options that the role's main entry point declares."""
    declared: dict[str, dict[str, t.Any]] = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get(
        "options", {}
    )
    return declared


def prefix(role: Path) -> str:
    """What the role's variables start with: no variable may start with a digit."""
    return re.sub(r"^\d+_", "", role.name)


def ansible_doc(*arguments: str) -> str:
    """What ansible-doc prints; its warnings, which it does not fail on, fail here."""
    done = ansible("ansible-doc", *arguments)
    assert done.status == 0, done.stderr
    warnings = re.findall(r"\[WARNING\]:.*(?:\n(?!\[).*)*", done.stderr)
    # ansible-core 2.21 warns of a collection inside itself.
    assert not [text for text in warnings if "_protomatter" not in text], done.stderr
    return done.stdout


@per_role
def test_role_has_what_each_role_has(role: Path) -> None:
    assert (role / "README.md").read_text().startswith("# ")
    assert load(role / "meta" / "main.yml")["galaxy_info"]["license"] == "GPL-3.0-or-later"
    assert load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["short_description"]


@per_role
def test_defaults_and_argument_spec_agree(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    declared = options(role)
    assert set(defaults) == {name for name, option in declared.items() if not option.get("required")}
    assert defaults == {name: declared[name].get("default") for name in defaults}


@per_role
def test_variables_start_with_the_roles_name(role: Path) -> None:
    names = set(load(role / "defaults" / "main.yml")) | set(options(role))
    assert not [name for name in names if not name.startswith(f"{prefix(role)}_")]
    for path in (role / "vars").glob("*.yml"):
        assert not [name for name in load(path) if not name.startswith(f"{prefix(role)}__")], path


@per_role
def test_readme_names_each_variable(role: Path) -> None:
    readme = (role / "README.md").read_text()
    assert not [name for name in options(role) if f"`{name}`" not in readme]


CODENAMES = {"bookworm": "12", "trixie": "13", "jammy": "22.04", "noble": "24.04", "resolute": "26.04"}
SYSTEM = re.compile(
    r"(Debian|Ubuntu|Fedora|Arch|(?:RHEL|Rocky|Alma)(?:(?:, | and )(?:RHEL|Rocky|Alma))*)(?: Linux)?"
    r"((?:(?:, | and | )[\d.]+)*)( and newer)?"
)


def declared_systems(role: Path) -> set[tuple[str, str]]:
    """The systems of the role's meta data: name and version."""
    platforms = load(role / "meta" / "main.yml")["galaxy_info"]["platforms"]
    return {
        (row["name"], CODENAMES.get(version, version)) for row in platforms for version in map(str, row["versions"])
    }


def documented_systems(role: Path) -> set[tuple[str, str]]:
    """The systems in the first column of the tables of the role's README."""
    found = set()
    for line in (role / "README.md").read_text().splitlines():
        cell = line.split("|")[1] if line.startswith("| ") else ""
        if "`" in cell:
            continue
        for name, versions, newer in SYSTEM.findall(cell):
            name = {"Arch": "ArchLinux"}.get(name, "EL" if re.match("RHEL|Rocky|Alma", name) else name)
            numbers = re.findall(r"\d[\d.]*", versions)
            found |= {(name, number) for number in (["all"] if newer or not numbers else numbers)}
    return found


def test_tables_of_systems_are_understood() -> None:
    assert {("Debian", "12"), ("Ubuntu", "24.04"), ("EL", "9")} <= documented_systems(ROOT / "roles" / "ollama")


@per_role
def test_platforms_of_the_meta_data_are_those_of_the_readme(role: Path) -> None:
    declared, documented = declared_systems(role), documented_systems(role)
    if documented:
        assert declared == documented
    else:
        assert declared <= declared_systems(ROOT / "roles" / "ollama")


# One call for all, since ansible-doc takes a second to start.


def test_ansible_doc_renders_each_role() -> None:
    text = ansible_doc("--type", "role", *(f"kaido.ollama.{role.name}" for role in ROLES))
    assert not [name for role in ROLES for name in options(role) if name not in text]
    assert not re.findall(r"\b(?:[BCILMOPUV]|RV|HORIZONTALLINE)\([^()]*\)|#(?:module|role)\b", text)


def test_ansible_doc_renders_each_module() -> None:
    names = [f"kaido.ollama.{module}" for module in MODULES]
    documented = json.loads(ansible_doc("--json", *names))
    assert list(documented) == names
    for name, described in documented.items():
        assert described["doc"]["attributes"].keys() >= {"check_mode", "diff_mode", "idempotent"}, name
        assert ("action_group" in described["doc"]["attributes"]) == ("api_url" in described["doc"]["options"]), name
        assert described["examples"].strip(), name
        assert described["return"], name
    text = ansible_doc(*names).upper()
    assert not [name for name in names if name.upper() not in text]


def test_action_group_contains_each_module_that_connects_to_a_server() -> None:
    """Defaults of a group reach each of its modules: one that does not know api_url would fail."""
    talking = [name for name in MODULES if "- kaido.ollama.api\n" in (ROOT / f"plugins/modules/{name}.py").read_text()]
    assert load(ROOT / "meta" / "runtime.yml")["action_groups"]["ollama"] == talking


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_task_ignores_errors(path: Path) -> None:
    assert "ignore_errors" not in path.read_text()


def flat(tasks: t.Sequence[dict[str, t.Any]] | None) -> t.Iterator[dict[str, t.Any]]:
    """Yield the tasks of a list, and those of its blocks."""
    for task in tasks or ():
        if "block" in task:
            for part in ("block", "rescue", "always"):
                yield from flat(task.get(part))
        else:
            yield task


@per_role
def test_each_task_that_can_fail_registers_its_result(role: Path) -> None:
    """The report of a host that has failed shows the reason. A result that is secret is not kept."""
    quiet = re.compile(r"ansible\.builtin\.(debug|set_fact|meta|include_\w+|import_\w+)|kaido\.ollama\.check_variables")
    paths = [*(role / "tasks").glob("*.yml"), *(role / "handlers").glob("*.yml")]
    found = [task for path in paths for task in flat(yaml.safe_load(path.read_text()))]
    acting = [
        task for task in found if not any(quiet.fullmatch(key) for key in task) and task.get("no_log") is not True
    ]
    assert [task["name"] for task in acting if "register" not in task] == []


def test_roles_called_by_playbooks_are_in_both_artifacts(tmp_path: Path) -> None:
    tree.copy(tmp_path)
    for rename in (None, dist.rename_for_galaxy):
        if rename:
            rename(tmp_path)
        there = {path.name for path in (tmp_path / "roles").iterdir()}
        called = {
            name
            for path in (tmp_path / "playbooks").glob("*.yml")
            for name in re.findall(r"(?:role:|name:|- ) *kaido\.ollama\.(\w+)$", path.read_text(), re.MULTILINE)
        }
        assert called
        assert called <= there
    assert not [name for name in there if name[0].isdigit()]


# An example of each option that holds secrets; the role passes tokens and keys in these.
SECRETS: dict[str, dict[str, t.Any]] = {
    "model_benchmark": {"models": ["a"], "gateway_url": "http://127.0.0.1:9", "gateway_token": "hunter2"},
    "preflight": {"version": "0.35.1", "unit": "x", "models_dir": "/x", "environment": '{"TOKEN": "hunter2"}'},
    "release": {
        "version": "0.35.1",
        "checksum": "0" * 64,
        "base_url": "http://127.0.0.1:9",
        "proxy": "http://me:hunter2@127.0.0.1:9",
        "retries": 1,
    },
    "service_info": {"files": '{"/nowhere/token": {"content": "hunter2", "mode": "0600"}}'},
}


def test_each_option_with_secrets_has_an_example() -> None:
    """Only `no_log` tells Ansible that an option holds secrets."""
    options = {
        (path.stem, name)
        for path in (ROOT / "plugins" / "modules").glob("*.py")
        for name in re.findall(r'"(\w+)": \{[^{}]*(?:\{\}")?[^{}]*"no_log": True', path.read_text())
    }
    assert {module for module, _name in options} == set(SECRETS)
    assert not [(module, name) for module, name in options if name not in SECRETS[module] and name != "proxy"]


@pytest.mark.parametrize("mode", ["--check", "--diff"])
@pytest.mark.parametrize("module", SECRETS)
def test_controller_prints_no_secret(tmp_path: Path, module: str, mode: str) -> None:
    """Up to ansible-core 2.21 modules mask secrets, from 2.22 on the controller does: this is what a user sees."""
    arguments = dict(SECRETS[module])
    if module == "release":
        arguments.update(install_dir=str(tmp_path / "opt"), bin_dir=str(tmp_path / "bin"))
    options = ("-a", json.dumps(arguments), "-e", f"ansible_python_interpreter={sys.executable}")
    log = tmp_path / "log"
    environment = {"ANSIBLE_LOG_PATH": str(log)}
    done = ansible(
        "ansible", "localhost", "-m", f"kaido.ollama.{module}", mode, "-vvv", *options, environment=environment
    )
    assert re.search(r"localhost \| (FAILED|SUCCESS|CHANGED)|FAILED!|fatal", done.output), done.output
    for shown in (done.output, log.read_text()):
        assert "hunter2" not in shown
        assert "_ansible_new_secrets" not in shown


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/handlers/main.yml")), ids=lambda path: path.parts[-3])
def test_topics_of_handlers_have_the_name_of_the_collection(path: Path) -> None:
    """Topics are global in a play."""
    assert all("kaido.ollama" in handler["listen"] for handler in yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_a_playbook_begins_with_the_validation(path: Path) -> None:
    """It refuses invalid variables of all hosts, and an ansible-core that is too old, before anything changes."""
    play = yaml.safe_load(path.read_text())[0]
    task = [*play.get("pre_tasks", []), *play["tasks" if "tasks" in play else "pre_tasks"]][0]
    while "block" in task:
        task = task["block"][0]
    role = task.get("ansible.builtin.import_role", {}).get("name")
    assert "kaido.ollama.check_variables" in task or role in ("kaido.ollama.ollama_services", "kaido.ollama.17_ollama")


def test_addresses_of_the_repository_are_those_of_the_metadata() -> None:
    """An owner who replaces the placeholder in galaxy.yml is shown each other place."""
    repository = yaml.safe_load((ROOT / "galaxy.yml").read_text())["repository"]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    address = re.compile(r"https://github\.com/kaido/[\w-]+")
    other = {
        name: found
        for name in filter(None, listed.split("\0"))
        if (found := set(address.findall((ROOT / name).read_text(errors="replace"))) - {repository})
    }
    assert not other
