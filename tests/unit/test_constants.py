# SPDX-License-Identifier: GPL-3.0-or-later
"""Each constant has one place; roles, which cannot read the variables of another role, repeat it unchanged."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core import address, server
from ansible_collections.kaido.ollama.plugins.modules import gpu_info

from tests.conftest import ROOT

DEFAULTS: dict[str, t.Any] = {}
for file in sorted(ROOT.glob("roles/*/defaults/main.yml")):
    DEFAULTS.update(yaml.safe_load(file.read_text()) or {})
USERS = sorted(path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.[yj][m2]*"))
DEFAULT = re.compile(r"\b(\w+) \| default\(([^()~]*?)(?:, true)?\)")


@pytest.mark.parametrize(
    ("variable", "constant"),
    [
        ("ollama_models_dir", server.Server.models_dir),
        ("ollama_install_dir", server.Server.install_dir),
        ("ollama_user", server.Server.user),
        ("ollama_group", server.Server.group),
        ("ollama_gateway_port", address.GATEWAY_PORT),
        ("ollama_mirror_port", address.MIRROR_PORT),
    ],
)
def test_role_defaults_agree_with_the_plugins(variable: str, constant: str | int) -> None:
    assert DEFAULTS[variable] == constant


def test_home_agrees_with_the_plugins() -> None:
    internal = yaml.safe_load((ROOT / "roles/ollama/vars/main.yml").read_text())
    assert internal["ollama__home"] == server.Server.home


def test_default_version_of_gpu_info_is_that_of_the_role() -> None:
    documented = yaml.safe_load(gpu_info.DOCUMENTATION)["options"]["ollama_version"]["default"]
    assert documented == DEFAULTS["ollama_version"]


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_defaults_of_variables_of_other_roles_agree(path: Path) -> None:
    repeated = [(name, text) for name, text in DEFAULT.findall(path.read_text()) if name in DEFAULTS and text != "omit"]
    assert [pair for pair in repeated if yaml.safe_load(pair[1]) != DEFAULTS[pair[0]]] == []


@pytest.mark.parametrize("constant", ["/usr/share/ollama/.ollama/models", '"/opt/ollama"', "/etc/ollama/ollama.env"])
def test_each_path_has_one_place_in_the_plugins(constant: str) -> None:
    documentation = re.compile(
        r'^(?:DOCUMENTATION|EXAMPLES|RETURN|    [A-Z]+) = r""".*?^"""|^\s+""".*?"""', re.M | re.S
    )
    texts = {path: documentation.sub("", path.read_text()) for path in (ROOT / "plugins").rglob("*.py")}
    assert [path.name for path, text in texts.items() if constant in text] == ["server.py"]
