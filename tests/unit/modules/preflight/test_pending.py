# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that are pending on a host."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_request,
    pending,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    AccountFacts,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.survey import Survey

from tests.unit.modules.preflight.hosts import CONVERGED, ENVIRONMENT, FRESH, MODELS, UNIT, WANTED, examine


def test_a_fresh_host_needs_every_step() -> None:
    steps = examine(WANTED, FRESH)
    assert list(steps) == ["packages", "release", "account", "directories", "unit", "environment", "service"]
    assert "OLLAMA_HOST, OLLAMA_MODELS, OLLAMA_NO_CLOUD" in steps["environment"]


def test_a_converged_host_needs_nothing() -> None:
    assert examine(WANTED, CONVERGED) == {}


@pytest.mark.parametrize(
    ("wanted", "host", "steps"),
    [
        ({"version": "0.35.0"}, {}, ["release", "service"]),
        ({"version": "0.35.2"}, {"has_zstd": False}, ["packages", "release", "service"]),
        ({"version": "0.35.0"}, {"has_zstd": False}, ["release", "service"]),
        ({"keep": 1}, {}, ["release"]),
        ({"checksum": "cd" * 32}, {"has_zstd": True}, ["release", "service"]),
        ({}, {"releases": replace(CONVERGED.releases, link=None)}, ["release"]),
        ({}, {"account": AccountFacts(997, frozenset({"ollama", "video"}))}, ["account", "service"]),
        ({}, {"directories": Survey(wrong=(MODELS,))}, ["directories"]),
        ({}, {"unit": UNIT + "x"}, ["unit", "service"]),
        ({}, {"unit": None}, ["unit", "service"]),
        ({"settings": {"num_parallel": 2}}, {}, ["environment", "service"]),
        ({}, {"environment": {**ENVIRONMENT, "OLLAMA_DEBUG": "1"}}, ["environment", "service"]),
        ({}, {"environment_is_private": False}, ["environment", "service"]),
        ({}, {"service": ServerFacts(active=False, enabled=True)}, ["service"]),
        ({}, {"service": ServerFacts(active=True, enabled=False, started=2000.0)}, ["service"]),
        # A run that was cut short between writing and restarting.
        ({}, {"service": ServerFacts(active=True, enabled=True, started=500.0)}, ["service"]),
        ({}, {"service": ServerFacts(active=True, enabled=True, started=2000.0, replaced="libc was")}, ["service"]),
        # A clock that was wrong then must not restart the server in every run.
        ({}, {"configured": time.time() + 9999}, []),
        ({}, {"package_manager": None, "has_zstd": False}, []),
    ],
)
def test_only_what_differs(wanted: dict[str, Any], host: dict[str, Any], steps: list[str]) -> None:
    assert list(examine(replace(WANTED, **wanted), replace(CONVERGED, **host))) == steps


def test_secrets_are_compared_but_not_returned() -> None:
    wanted = replace(WANTED, environment={"HTTPS_PROXY": "http://me:hunter2@p:1"})
    steps = examine(wanted, CONVERGED)
    assert steps["environment"].endswith("differs in HTTPS_PROXY")
    assert "hunter2" not in json.dumps(steps)
    there = replace(CONVERGED, environment={**ENVIRONMENT, "HTTPS_PROXY": "http://me:hunter2@p:1"})
    assert examine(wanted, there) == {}


def test_the_settings_that_change_are_shown_without_secrets() -> None:
    wanted = replace(
        WANTED, settings={"keep_alive": "1h"}, environment={"OLLAMA_API_KEY": "hunter2", "OLLAMA_DEBUG": "1"}
    )
    there = replace(CONVERGED, environment={**ENVIRONMENT, "OLLAMA_KEEP_ALIVE": "5m", "HTTPS_PROXY": "http://a:b@c"})
    assert pending.settings_changes(host_request.validate(wanted), there) == [
        "HTTPS_PROXY: (hidden) -> (not set)",
        "OLLAMA_API_KEY: (not set) -> (hidden)",
        "OLLAMA_DEBUG: (not set) -> (hidden)",
        "OLLAMA_KEEP_ALIVE: 5m -> 1h",
    ]
    assert pending.settings_changes(host_request.validate(WANTED), CONVERGED) == []
