# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installations by other means: adopted, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    adoption,
    host_request,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    ServerFacts,
)

from tests.unit.modules.preflight.hosts import CONVERGED, FOREIGN, MODELS, VENDOR, VENDORS, WANTED, examine, refusal


def test_the_installation_of_the_vendor_is_adopted() -> None:
    steps = examine(WANTED, FOREIGN)
    assert list(steps) == ["packages", "release", "unit", "environment", "service"]
    assert "take over Ollama 0.34.4" in steps["release"]
    assert "switch from 0.34.4" in steps["release"]
    assert adoption.adoption(host_request.validate(WANTED), FOREIGN) == {
        "version": "0.34.4",
        "unit": True,
        "drop_ins": ["override.conf"],
        "dropped": ["OLLAMA_HOST", "OLLAMA_MAX_QUEUE"],
    }
    assert adoption.adoption(host_request.validate(WANTED), CONVERGED) is None


def test_a_repeated_run_of_the_install_script_is_adopted_again() -> None:
    again = replace(CONVERGED, unit=VENDORS, releases=replace(CONVERGED.releases, link="", vendor=VENDOR))
    again = replace(again, service=replace(again.service, environment={"OLLAMA_MODELS": MODELS}))
    assert list(examine(WANTED, replace(again, has_zstd=True))) == ["release", "unit", "service"]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"unit": VENDORS.replace("/usr/local/bin", "/usr/bin")}, "installation_foreign", ["/usr/local/bin/ollama"]),
        (
            {"unit": "[ServerFacts]\nExecStart=/usr/local/bin/ollama serve --x\n"},
            "installation_foreign",
            ["ollama.service"],
        ),
        (
            {"other_program": "/usr/bin/ollama"},
            "installation_foreign",
            [
                "/usr/bin/ollama",
                "package",
                "Ollama's own script",
                "rm -r /usr/bin/ollama /usr/lib/ollama",
                "models stay",
            ],
        ),
        (
            {"other_program": "/usr/bin/ollama", "service": ServerFacts(environment={"OLLAMA_MODELS": "/data/m"})},
            "installation_foreign",
            ["then set ollama_models_dir: /data/m"],
        ),
        (
            {"service": ServerFacts(environment={"OLLAMA_MODELS": "/data/m"})},
            "store_foreign",
            ["ollama_models_dir", "/data/m"],
        ),
        ({"service": ServerFacts(environment={"HOME": "/srv/o"})}, "store_foreign", ["/srv/o/.ollama/models"]),
    ],
)
def test_installations_that_are_not_adopted(changes: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(WANTED, replace(FOREIGN, **changes))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_another_directory_for_releases_is_refused() -> None:
    error = refusal(replace(WANTED, install_dir="/srv/ollama"), CONVERGED)
    assert error.code == "install_dir_changed"
    assert "expected '/opt/ollama'" in error.message
