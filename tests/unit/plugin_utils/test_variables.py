# SPDX-License-Identifier: GPL-3.0-or-later
"""Misspelt variables and invalid values of playbook variables are refused in one line."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.plugin_utils.variables import (
    PREFIXES,
    RESULTS,
    TAGS,
    check_arguments,
    check_names,
    check_tags,
    check_values,
    known_variables,
    misspelled_groups,
    specifications,
    unknown_variables,
)

from tests.conftest import ROOT

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("ollama_verison", "ollama_version"),
        ("ollama_model", "ollama_models"),
        ("ollama_setting", "ollama_settings"),
        ("ollama_gateway_enable", "ollama_gateway_enabled"),
        ("gpu_driver_vender", "gpu_driver_vendor"),
        ("ollama_bundle_checksums", "ollama_bundle_checksum"),
        ("ollama_qqqqq", None),
        ("olama_version", "ollama_version"),
        ("OLLAMA_MODELS", "ollama_models"),
        ("gpu_drivr_vendor", "gpu_driver_vendor"),
        ("ollama-version", "ollama_version"),
        ("ollama.version", "ollama_version"),
        ("gpu-driver-vendor", "gpu_driver_vendor"),
        ('"ollama_models"', "ollama_models"),
        ("ollama_settings.keep_alive", '{"ollama_settings": {"keep_alive": ...}}'),
    ],
)
def test_misspelt_variables_are_named_with_the_similar_one(name: str, similar: str | None) -> None:
    assert unknown_variables([name]) == {name: similar}
    with pytest.raises(OllamaError) as info:
        check_names({"b": [name], "a": ["ollama_models"]})
    assert info.value.code == "variable_unknown"
    suggestion = f"; did you mean {similar}?" if similar else "; list variables of your own in ollama_ignored_variables"
    assert info.value.message == f"{name}: unknown variable of host b{suggestion}"


@pytest.mark.parametrize(
    ("groups", "files", "warnings"),
    [
        (["ollama_servers"], ["ollama_server.yml"], ["group_vars/ollama_server.yml", "ollama_servers"]),
        (["ollama_servers"], ["ollama-servers"], ["group_vars/ollama-servers", "ollama_servers"]),
        (["ollama_servers", "ollama_gateway"], [], ["group ollama_gateway", "ollama_gateways"]),
        (["Ollama_Clients"], [], ["group Ollama_Clients", "ollama_clients"]),
        # The variables of groups that another inventory beside this one has, and groups of one's own.
        (["ollama_servers"], ["all.yml", "ollama_clients.yml", "ollama_gateways"], []),
        (["ollama_servers", "ollama_servers2"], ["ollama_servers2.yml"], []),
        (["ollama_servers", "web"], ["ollama_servers_big.yml", "ollama.yml"], []),
    ],
)
def test_similar_groups_are_named(tmp_path: Path, groups: list[str], files: list[str], warnings: list[str]) -> None:
    (tmp_path / "group_vars").mkdir()
    for file in files:
        (tmp_path / "group_vars" / file).touch()
    found = misspelled_groups(groups, str(tmp_path))
    place, similar = warnings or ["", ""]
    assert found == ([f"{place}: not used by this collection; did you mean {similar}?"] if warnings else [])
    assert misspelled_groups(["ollama_servers"], "") == []


@pytest.mark.parametrize(
    ("rest", "shown"),
    [
        ("ollama_models", "ollama_models"),
        ("ollama_version: 0.35.1", "ollama_version"),
        ("ollama_version = 0.35.1", "ollama_version"),
        ("half-of-a-secret", "(not shown)"),
    ],
)
def test_what_ansible_ignores_on_the_command_line_is_refused(rest: str, shown: str) -> None:
    with pytest.raises(OllamaError) as info:
        check_arguments(rest)
    assert info.value.code == "value_invalid"
    assert info.value.message == f"-e: invalid text {shown}; expected NAME=VALUE with quotes around spaces"
    check_arguments(None)


def test_foreign_variables_are_not_refused() -> None:
    own = ["my_ollama_thing", "ansible_host", "ollama", "ollama_backup_dir", "ollama__preflight", "ollama_gateway__x"]
    check_names({"a": own}, ["ollama_backup_dir"])
    check_names({"a": ["llama_models_dir", "prod_ollama_gateway_tls_certificate", "vault_ollama_client_keys"]})
    check_names({"a": known_variables() | RESULTS})


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("olama", "did you mean ollama?"),
        ("ollama_model", "did you mean ollama_models?"),
        ("OLLAMA_MODELS", "did you mean ollama_models?"),
        ("ollama_qqqqq", f"expected one of {', '.join(sorted(TAGS))}"),
    ],
)
def test_misspelt_tags_are_refused(tag: str, hint: str) -> None:
    with pytest.raises(OllamaError) as info:
        check_tags(["all", tag])
    assert (info.value.code, info.value.message) == ("tag_unknown", f"{tag}: unknown tag; {hint}")


def test_foreign_tags_are_not_refused() -> None:
    check_tags(["all", "never", "webserver", *TAGS])


def test_every_tag_is_known() -> None:
    found: set[str] = set()
    for path in [*(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")]:
        text = path.read_text()
        lists = [item for line in re.findall(r"^ *tags: \[(.*)\]$", text, re.M) for item in line.split(", ")]
        blocks = [
            item
            for block in re.findall(r"^ *tags:\n((?: *- .*\n)+)", text, re.M)
            for item in re.findall(r"- (\w+)$", block, re.M)
        ]
        found.update(lists + blocks)
    assert found - {"always"} == TAGS


def test_every_variable_that_a_user_or_a_play_sets_is_known() -> None:
    """Otherwise the check would refuse an inventory that the documentation describes."""
    found: set[str] = set()
    for folder in ("playbooks", "roles", "inventory", "molecule"):
        for path in (ROOT / folder).rglob("*.yml"):
            text = path.read_text()
            found.update(re.findall(r"^ *(?:register: )?((?:ollama|gpu_driver)_[a-z][a-z_]*[a-z])(?::|$)", text, re.M))
    roles_files = {path.stem for path in (ROOT / "roles").glob("*/tasks/*.yml")}
    groups = {"ollama_servers", "ollama_gateways", "ollama_clients"}
    assert set(unknown_variables(found - groups - roles_files)) == set()


@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if name not in ("site", "uninstall", "benchmark")])
def test_each_variable_of_a_playbook_is_in_its_entry_point(playbook: str) -> None:
    text = (ROOT / "playbooks" / f"{playbook}.yml").read_text()
    documented = specifications()["ollama"].get(playbook, {})
    used = set(re.findall(r"ollama_(?:bundle|lock|verify|report|update)_[a-z_]*[a-z]|ollama_bundle\b", text))
    others = {name for entry, options in specifications()["ollama"].items() if entry != playbook for name in options}
    internal = set(re.findall(r"(ollama_[a-z]+__[a-z_]+)", text)) | RESULTS
    assert {name for name in used - internal if "__" not in name} <= set(documented) | others
    assert {name for name in documented if name.startswith("ollama_bundle")} <= used


BAD: list[tuple[str, dict[str, t.Any], str]] = [
    ("export", {}, "ollama_bundle: not set; expected a path"),
    ("export", {"ollama_bundle": ""}, "ollama_bundle: invalid value ''; expected a path"),
    ("export", {"ollama_bundle": 5}, "ollama_bundle: invalid value 5; expected a path"),
    (
        "export",
        {"ollama_bundle": "/a", "ollama_bundle_models": "tiny"},
        "ollama_bundle_models: invalid value 'tiny'; expected a list of strings",
    ),
    (
        "export",
        {"ollama_bundle": "/a", "ollama_bundle_models": [{}]},
        "ollama_bundle_models: invalid value [{}]; expected a list of strings",
    ),
    (
        "export",
        {"ollama_bundle": "/a", "ollama_bundle_release": "maybe"},
        "ollama_bundle_release: invalid value 'maybe'; expected true or false",
    ),
    ("import", {"ollama_bundle_checksum": ["x"]}, "ollama_bundle_checksum: invalid value ['x']; expected text"),
    (
        "import",
        {"ollama_bundle": "/a", "ollama_bundle_checksum": "sha256:abc"},
        "ollama_bundle_checksum: invalid value 'sha256:abc'; expected sha256: and 64 hexadecimal digits",
    ),
    ("lock", {"ollama_lock_only_new": 3}, "ollama_lock_only_new: invalid value 3; expected true or false"),
    ("lock", {"ollama_models_lock": ["a"]}, "ollama_models_lock: invalid value ['a']; expected a path"),
    (
        "lock",
        {"ollama_lock_registry_environment": "A=b"},
        "ollama_lock_registry_environment: invalid value 'A=b'; expected a mapping",
    ),
    ("verify", {"ollama_verify_report": {}}, "ollama_verify_report: invalid value {}; expected a path"),
    ("report", {"ollama_report_file": True}, "ollama_report_file: invalid value True; expected a path"),
    ("update", {"ollama_update_drain": -1}, "ollama_update_drain: invalid value -1; expected a number of 0 or more"),
    ("update", {"ollama_update_drain": "nan"}, "ollama_update_drain: invalid value 'nan'; expected a number"),
    ("update", {"ollama_update_drain": True}, "ollama_update_drain: invalid value True; expected a number"),
    (
        "update",
        {"ollama_update_probe": "tiny"},
        "ollama_update_probe: invalid value 'tiny'; expected a list of strings",
    ),
    (
        "update",
        {"ollama_update_probe": "tiny"},
        "ollama_update_probe: invalid value 'tiny'; expected a list of strings; on the command line use "
        "-e '{\"ollama_update_probe\": [...]}'",
    ),
]


@pytest.mark.parametrize(("playbook", "values", "text"), BAD)
def test_invalid_values_are_one_line(playbook: str, values: dict[str, t.Any], text: str) -> None:
    with pytest.raises(OllamaError) as info:
        check_values(playbook, values)
    assert info.value.code == "value_invalid"
    assert info.value.message.startswith(text)
    assert "\n" not in info.value.message


def test_valid_values_pass() -> None:
    check_values("export", {"ollama_bundle": "/media/llm.tar", "ollama_bundle_models": ["a"]})
    check_values("export", {"ollama_bundle": "/media/llm.tar", "ollama_bundle_release": "no"})
    check_values("report", {"ollama_benchmark_dir": ""})
    check_values("lock", {"ollama_models_lock": ""})
    check_values("update", {"ollama_update_drain": "30", "ollama_update_serial": "50%"})
    check_values("lock", {"ollama_lock_registry_environment": {"HTTPS_PROXY": "http://p:1"}})


def test_every_type_of_the_specifications_has_a_rule() -> None:
    for playbook in set(specifications()["ollama"]) - {"main"}:
        check_values(playbook, {"ollama_bundle": "/a"})
        for option in specifications()["ollama"][playbook].values():
            assert option["type"] in ("bool", "dict", "float", "int", "list", "path", "raw", "str")


def test_prefixes_are_those_of_the_roles() -> None:
    for path in ROOT.glob("roles/*/defaults/main.yml"):
        assert all(name.startswith(PREFIXES) for name in yaml.safe_load(path.read_text()) or {})
