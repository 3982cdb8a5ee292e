# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts, drop-ins and mount points that a host must not or may have."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.host import is_mount_point
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
    host_request,
    ownership,
    survey,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    AccountFacts,
    HostFacts,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.store_facts import StoreFacts
from ansible_collections.kaido.ollama.plugins.modules import preflight

from tests.unit.conftest import RunModule
from tests.unit.modules.preflight.hosts import (
    CONVERGED,
    FOREIGN,
    FRESH,
    MODELS,
    UNIT,
    WANTED,
    arguments,
    examine,
    refusal,
)


@pytest.mark.parametrize(
    ("variable", "host", "refused"),
    [
        ("ollama_install_dir", FRESH, True),
        ("ollama_install_dir", CONVERGED, False),
        ("ollama_models_dir", CONVERGED, False),
        ("ollama_models_dir", replace(CONVERGED, directories=survey.Survey(wrong=(MODELS,))), True),
    ],
)
def test_a_read_only_file_system_is_refused_where_something_has_to_be_written(
    variable: str, host: HostFacts, refused: bool
) -> None:
    host = replace(host, directories=replace(host.directories, read_only=(variable,)))
    if not refused:
        examine(WANTED, host)
        return
    error = refusal(WANTED, host)
    assert (error.code, error.details["variable"]) == ("filesystem_read_only", variable)


def test_problems_of_directories_are_failures() -> None:
    problem = ownership.Problem("store_unsafe", "/x is a symbolic link", "/x")
    error = refusal(WANTED, replace(CONVERGED, directories=survey.Survey(problems=(problem,))))
    assert (error.code, error.message) == ("store_unsafe", "/x is a symbolic link")


# The account

OURS = CONVERGED.account
assert OURS is not None


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (replace(OURS, shell="/bin/bash", home="/home/lab", uid=1000), ["login account", "/bin/bash", "/home/lab"]),
        (replace(OURS, shell="/bin/bash"), ["login account"]),
        (replace(OURS, shell=""), ["login account", "/bin/sh"]),
        (replace(OURS, uid=0), ["login account"]),
        (replace(OURS, uid=33, home="/var/www"), ["an account of the operating system (uid 33)"]),
        (replace(OURS, group="users"), ["primary group is users", "ollama_group: users"]),
        (replace(OURS, processes=("nginx (pid 7)",), home="/var/www"), ["nginx (pid 7)"]),
        (replace(OURS, local=False, groups=frozenset()), ["gpasswd -a ollama render", "directory service"]),
    ],
)
def test_a_foreign_account_is_refused(account: AccountFacts, words: list[str]) -> None:
    error = refusal(WANTED, replace(CONVERGED, account=account))
    assert error.code == "account_unsuitable"
    assert error.message.startswith("ollama_user: invalid value 'ollama'; ")
    for word in words:
        assert word in error.message


@pytest.mark.parametrize(
    "account",
    [
        replace(OURS, home="/var/lib/llm"),
        replace(OURS, uid=30001, local=False),
        replace(OURS, shell="/bin/false"),
    ],
)
def test_an_account_that_is_suitable_is_used_as_it_is(account: AccountFacts) -> None:
    assert examine(WANTED, replace(CONVERGED, account=account)) == {}


@pytest.mark.parametrize(
    ("variable", "name"),
    [("user", name) for name in ("root", "nobody", "", "a b", "-x", "0", "1000", "a:b", "x" * 33, "a\nb", "a/b", "ü")]
    + [("group", name) for name in ("root", "wheel", "sudo", "docker", "shadow", "", "a b", "1000")],
)
def test_names_of_accounts(variable: str, name: str) -> None:
    error = refusal(replace(WANTED, **t.cast("dict[str, t.Any]", {variable: name})))
    assert (error.code, error.message.startswith(f"ollama_{variable}: invalid value")) == ("value_invalid", True)


@pytest.mark.parametrize(("key", "variable"), [("User", "ollama_user"), ("Group", "ollama_group")])
def test_another_account_on_a_host_with_a_server(key: str, variable: str) -> None:
    unit = UNIT + f"{key}=llm\n"
    error = refusal(replace(WANTED, unit=unit), replace(CONVERGED, unit=unit))
    assert error.code == "account_changed"
    assert f"{variable}: llm" in error.message
    assert "kaido.ollama.uninstall" in error.message


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("[Service]\nUser=root\nGroup=root\n", True),
        ("[Service]\n  User = root  \n", True),
        ("[Service]\nGroup=video\n", True),
        ("[Service]\nDynamicUser=yes\n", True),
        ("[Service]\nUser=root\nUser=ollama\n", False),
        ("[Service]\n#User=root\nUser=\n", False),
        ("[Service]\nDynamicUser=no\nUser=ollama\n", False),
    ],
)
@pytest.mark.parametrize("host", [CONVERGED, FOREIGN, FRESH])
def test_a_drop_in_that_sets_another_account(text: str, refused: bool, host: HostFacts) -> None:
    there = replace(host, drop_ins={"override.conf": text})
    if not refused:
        examine(WANTED, there)
        return
    error = refusal(WANTED, there)
    assert error.code == "drop_in_conflict"
    assert "/etc/systemd/system/ollama.service.d/override.conf" in error.message


# Storage


@pytest.mark.parametrize("value", ["maybe", "none", "data", "/other", 7, ["/data"]])
def test_what_is_neither_true_nor_a_mount_point(run_module: RunModule, value: t.Any) -> None:
    result = run_module(preflight, arguments(models_mount_required=value))
    assert result["failure"]["code"] == "value_invalid"
    assert result["msg"].startswith("ollama_models_mount_required: invalid value")


def test_a_mount_point_that_is_missing_below_another_one() -> None:
    # /dev/shm is a file system of its own in every container; a directory in it is none.
    there = Path("/dev/shm/kaido-test")
    there.mkdir(exist_ok=True)
    try:
        assert not is_mount_point(str(there))
        assert is_mount_point("/dev/shm")
        assert is_mount_point("/proc")
        assert not is_mount_point("/dev/shm/missing")
    finally:
        there.rmdir()


def test_a_mount_point_above_the_models_can_be_named() -> None:
    wanted = replace(WANTED, models_dir="/data/a/models", models_mount_required="/data")
    assert "/data is not a mount point" in refusal(wanted, replace(CONVERGED, store=StoreFacts(mounted=False))).message


@pytest.mark.parametrize("models", [MODELS, "/srv/models"])
def test_a_store_under_a_path_that_units_cannot_contain(models: str) -> None:
    service = ServerFacts(environment={"OLLAMA_MODELS": "/mnt/Big Disk/models"})
    error = refusal(replace(WANTED, models_dir=models), replace(FOREIGN, service=service))
    assert error.code == "store_foreign"
    for word in (
        "/mnt/Big Disk/models",
        "mount --bind '/mnt/Big Disk/models'",
        "ollama_models_dir: /srv/ollama-models",
    ):
        assert word in error.message


# Versions


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ("0.34.1", False),
        ("0.34.2", True),
        ("0.34.3", True),
        ("0.34.4", True),
        ("0.35.0", False),
        (None, False),
        ("x", False),
    ],
)
def test_a_server_with_the_vulnerability_is_named(version: str | None, warned: bool) -> None:
    assert ("CVE-2026-103663" in (host_request.vulnerability(version) or "")) == warned


def test_preflight_warns_of_an_unusable_gpu(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "gather", lambda *_: FOREIGN)
    result = run_module(preflight, arguments(models_dir=MODELS + "/"))
    assert any("CVE-2026-103663" in warning for warning in result["warnings"])
    assert (result["account_exists"], result["former_user"], result["unit"]) == (True, "", UNIT)
    assert result["environment"]["OLLAMA_MODELS"] == MODELS
