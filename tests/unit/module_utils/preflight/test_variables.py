# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid values of every variable of role ollama end with one line that names the variable and what is expected."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import host_request, variables

from tests.conftest import ROOT

DEFAULTS: dict[str, t.Any] = yaml.safe_load((ROOT / "roles/ollama/defaults/main.yml").read_text())
SUM = "sha256:" + "ab" * 32
SECRET = "hunter2"
BAD: dict[str, list[t.Any]] = {
    "ollama_version": [None, "", 0.4, "v0.35.1", "latest", "0.35", [], {}, True, "0.35.1\n", "0.34.4", "0.35.1-rc"],
    "ollama_settings": [
        None,
        "keep_alive=5m",
        [],
        ["keep_alive"],
        5,
        {1: 2},
        {"keepalive": "5m"},
        {"keep_alive": "soon"},
        {"host": "127.0.0.1:99999"},
        {"host": "127.0.0.1:0"},
        {"host": ":11434"},
        {"host": "0.0.0.0"},
        {"host": None},
        {"host": "https://127.0.0.1"},
        {"host": ["127.0.0.1"]},
        {"no_cloud": "off"},
        {"num_parallel": 0},
        {"num_parallel": "many"},
        {"origins": "app.lan"},
        {"http_proxy": "proxy:3128"},
        {"https_proxy": f"http://me:{SECRET}@proxy:3128"},
        {"gpu_overhead": "-1"},
        {"models": "/srv"},
    ],
    "ollama_environment": [
        None,
        "A=b",
        [],
        {"A B": SECRET},
        {"A": [SECRET]},
        {"A": None},
        {"A": True},
        {"A": SECRET + "\nB=c"},
        {"OLLAMA_HOST": "0.0.0.0"},
        {"OLLAMA_MODELS": "/srv"},
    ],
    "ollama_models": [
        None,
        {},
        {"name": "a"},
        "llama3.2:3b",
        7,
        [None],
        [7],
        [[]],
        [{}],
        [{"name": None}],
        ["a b"],
        ["a/b/c/d"],
        [{"name": "a", "digest": "sha256:12"}],
        [{"name": "a", "state": "here"}],
        [{"name": "a", "aliases": "b"}],
        [{"name": "a", "colour": "red"}],
        [{"name": "a", "state": "absent", "digest": SUM}],
        [{"name": "a", "state": "absent", "aliases": ["b"]}],
        ["a", "a:latest"],
        ["x:cloud"],
    ],
    "ollama_models_lock": [None, ["a"], 5, True, "a\nb"],
    "ollama_mirrors": [None, "http://hecate:11480", {}, [None], [5], ["hecate:11480"], ["ftp://hecate"], [""]],
    "ollama_mirrors_trusted": [None, "maybe", [], 2, "of"],
    "ollama_models_dir": [
        None,
        "",
        "models",
        "~/models",
        "/",
        "/tmp/m",
        "/a/../b",
        "/my models",
        [],
        5,
        "/opt/ollama/m",
    ],
    "ollama_models_mount_required": [None, "maybe", [], {}, "mnt", "/elsewhere", 2],
    "ollama_models_exclusive": [None, "maybe", [], 2],
    "ollama_models_keep": [None, "a", {"a": 1}, [None], [""], [5]],
    "ollama_models_parallel": [None, 0, -1, "two", 1.5, [], True, "", 65],
    "ollama_models_stall_timeout": [None, 0, -1, "soon", [], True, 1e9],
    "ollama_models_deadline": [None, -1, "soon", [], True, 1e9],
    "ollama_models_verify": [None, "all", True, [], ""],
    "ollama_startup_timeout": [None, -1, 0, "soon", "", [], True, 1e9, "-5"],
    "ollama_release_base_url": [
        None,
        "",
        "ftp://depot.lan",
        "depot.lan/releases",
        "https://",
        "https:///x",
        "http://a b",
        "file://depot/x",
        "https://depot:99999",
        [],
        5,
    ],
    "ollama_release_proxy": [None, "proxy.lan:3128", "ftp://p", f"x://me:{SECRET}@p", [], "http://", "http://p:99999"],
    "ollama_release_ca_path": [None, "ca.pem", [], 5, "~/ca.pem"],
    "ollama_release_archives": [None, "ollama-linux-amd64.tar.zst", [5], ["x.tar"], [None], {}],
    "ollama_release_variants": [None, "rocm", ["cuda"], [5], {}, ["rocm,mlx"]],
    "ollama_release_checksum": [None, "abc", "sha256:12", "md5:" + "ab" * 16, "ab" * 31, 5, [], {}],
    "ollama_release_checksums": [
        None,
        [],
        "x",
        {"0.35.1": SUM},
        {"0.35.1": {"ollama-linux-amd64.tar.zst": "x"}},
        {"0.35.1": {"ollama-linux-amd64.tar.zst": ""}},
        {"0.35.1": {"x.zip": SUM}},
        {0.35: {"ollama-linux-amd64.tar.zst": SUM}},
        {"v1": {"ollama-linux-amd64.tar.zst": SUM}},
    ],
    "ollama_release_fetch_checksum": [None, "ask", []],
    "ollama_release_keep": [None, 0, -1, "two", 1.5, [], True, ""],
    "ollama_install_dir": [None, "", "opt", "/", "/usr/bin", "/opt/100%", [], "/usr/share/ollama/x"],
    "ollama_user": [None, "", "root", "a b", "0", "1000", "-x", "x" * 33, "nobody", [], 5, "a:b", "a\nb", "über"],
    "ollama_group": [None, "", "root", "docker", "sudo", "a b", "wheel", [], 5, "nogroup"],
    "ollama_gpu": [None, "yes", True, [], "auto", 1],
    "ollama_sandbox": [None, "maybe", [], "of"],
    "ollama_unit_limits": [
        None,
        "MemoryMax=1G",
        [],
        {"MemoryMax": "1M"},
        {"MemoryMax": 32},
        {"MemoryHigh": "10M"},
        {"MemoryMax": "32 GB"},
        {"MemoryMax": True},
        {"CPUQuota": "4"},
        {"CPUQuota": "0%"},
        {"TasksMax": 3},
        {"LimitNOFILE": 10},
        {"Memory": "1G"},
        {"ExecStart": "/bin/sh"},
        {"Nice": 40},
    ],
    "ollama_remove_models": [None, "maybe", []],
    "ollama_allow_vulnerable_version": [None, "maybe", []],
    "ollama_allow_open_network": [None, "maybe", []],
    "ollama_accept_store_migration": [None, "maybe", []],
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


def validate(**changes: t.Any) -> None:
    """Validate variables as the action plugin does: first each by itself, then the requirements of the role."""
    values = {**DEFAULTS, **changes}
    variables.check_variables(values)
    request = host_request.from_options(
        {
            "version": values["ollama_version"],
            "unit": "",
            "models_dir": values["ollama_models_dir"],
            "settings": values["ollama_settings"],
            "environment": json.dumps(values["ollama_environment"]),
            "limits": values["ollama_unit_limits"],
            "models": values["ollama_models"],
            "mirrors": values["ollama_mirrors"],
            "models_mount_required": values["ollama_models_mount_required"],
            "install_dir": values["ollama_install_dir"],
            "user": values["ollama_user"],
            "group": values["ollama_group"],
            "keep": values["ollama_release_keep"],
        }
    )
    host_request.validate(request)


def test_every_variable_has_a_rule_and_invalid_values() -> None:
    assert set(variables.RULES) == set(DEFAULTS) == set(BAD)


def test_the_defaults_are_valid() -> None:
    validate()


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value!r}"[:70] for name, value in CASES])
def test_an_invalid_value_is_refused_in_one_line(name: str, value: t.Any) -> None:
    with pytest.raises(OllamaError) as caught:
        validate(**{name: value})
    text = caught.value.message
    assert name in text
    assert "\n" not in text
    assert SECRET not in text
    assert "Error" not in text
    assert any(word in text for word in ("expected", "allowed", "is not a list", "already declared", "cloud"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ollama_settings", {"keep_alive": "5m", "host": "[::1]:11434"}),
        ("ollama_models", ["a", {"name": "b", "state": "absent"}]),
        ("ollama_models_dir", "/srv/models/"),
        ("ollama_models_mount_required", "/usr/share/ollama"),
        ("ollama_gpu", False),
        ("ollama_startup_timeout", "90"),
        ("ollama_release_base_url", "file:///srv/releases"),
        ("ollama_release_archives", ["files/ollama-linux-amd64.tar.zst"]),
        ("ollama_release_checksum", "AB" * 32),
        ("ollama_release_checksums", {"0.99.0": {"ollama-linux-amd64.tar.zst": SUM}}),
        ("ollama_unit_limits", {"MemoryMax": "32G", "MemoryHigh": "80%", "TasksMax": "infinity"}),
        ("ollama_allow_open_network", "yes"),
        ("ollama_models_lock", {}),
    ],
)
def test_a_valid_value_is_accepted(name: str, value: t.Any) -> None:
    validate(**{name: value})


def test_a_checksum_of_another_release_is_refused() -> None:
    known = {"0.35.0": {"ollama-linux-amd64.tar.zst": SUM}, "0.35.1": {"ollama-linux-amd64.tar.zst": "cd" * 32}}
    with pytest.raises(OllamaError, match=r"the checksum of 0\.35\.1; this one is of 0\.35\.0"):
        variables.check_checksum_version(SUM, "0.35.1", known)
    variables.check_checksum_version(SUM, "0.35.0", known)
    variables.check_checksum_version("ef" * 32, "0.35.1", known)
