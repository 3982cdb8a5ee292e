# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that no host can meet: versions, checksums and limits of the unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
    host_request,
    suitability,
)
from ansible_collections.kaido.ollama.plugins.modules import preflight

from tests.unit.conftest import RunModule
from tests.unit.modules.preflight.hosts import CONVERGED, FRESH, SUM, WANTED, arguments, examine, refusal

# What a version without a known checksum needs, one of the three.
CHECKSUM_OPTIONS = ("ollama_release_checksums", "ollama_release_fetch_checksum: true", "scripts/add_release.py")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (
            {"version": "0.34.4"},
            "version_vulnerable",
            ["ollama_version", "'0.34.4'", "0.35.0", "CVE-2026-103663", "ollama_allow_vulnerable"],
        ),
        ({"version": "v0.35.1"}, "version_invalid", ["ollama_version", "'v0.35.1'"]),
        ({"version": "latest"}, "version_invalid", ["ollama_version", "'latest'"]),
        ({"version": "0.36.0", "checksums": {}}, "checksum_unknown", ["'0.36.0'", *CHECKSUM_OPTIONS]),
        ({"checksum": "abc"}, "digest_invalid", ["ollama_release_checksum", "'abc'", "64"]),
        ({"settings": {"keepalive": "5m"}}, "setting_unknown", ["ollama_settings.keepalive", "keep_alive"]),
        ({"settings": {"no_cloud": "off"}}, "setting_invalid", ["ollama_settings.no_cloud", "'off'", "true or false"]),
        (
            {"settings": {"host": "0.0.0.0"}},
            "server_exposed",
            ["ollama_settings.host", "'0.0.0.0'", "ollama_allow_open"],
        ),
        ({"environment": {"A B": "x"}}, "environment_invalid", ["ollama_environment.A B"]),
        ({"models": ["llama3.2:3b", "a/b/c/d"]}, "name_invalid", ["ollama_models[1]", "'a/b/c/d'"]),
        ({"models": [{"state": "present"}]}, "model_invalid", ["ollama_models[0]", "present"]),
        ({"models": ["a", "A:latest"]}, "model_duplicate", ["ollama_models[1]", "A:latest"]),
        (
            {"models": [{"name": "a", "digest": "sha256:12"}]},
            "digest_invalid",
            ["ollama_models[0].digest", "sha256:12"],
        ),
        ({"models": ["x:cloud"]}, "model_in_cloud", ["ollama_models[0]", "ollama_settings.no_cloud: false"]),
        ({"mirrors": ["hecate:11480"]}, "url_invalid", ["ollama_mirrors", "'hecate:11480'"]),
        ({"lock": {"a": "latest"}}, "digest_invalid", ["lock: a", "'latest'"]),
        ({"keep": 0}, "value_invalid", ["ollama_release_keep", "0", "at least 1"]),
        ({"models_dir": "models"}, "value_invalid", ["ollama_models_dir", "'models'", "absolute"]),
        ({"models_dir": "/my models"}, "value_invalid", ["ollama_models_dir", "'/my models'"]),
        ({"install_dir": "/opt/100%"}, "value_invalid", ["ollama_install_dir", "'/opt/100%'"]),
    ],
)
def test_a_request_that_no_host_can_meet(changes: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(replace(WANTED, **changes))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_what_was_refused_can_be_allowed() -> None:
    old = replace(WANTED, version="0.30.0", allow_vulnerable_version=True, checksum="AB" * 32, checksums={})
    assert "install 0.30.0" in examine(old, FRESH)["release"]
    assert examine(replace(WANTED, settings={"host": "0.0.0.0"}, allow_open_network=True), FRESH)
    assert examine(replace(WANTED, settings={"no_cloud": False}, models=["x:cloud"]), FRESH)


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        ({"MemoryMaxx": "1G"}, "limit_unknown", ["ollama_unit_limits.MemoryMaxx", "expected MemoryMax"]),
        ({"ExecStart": "/bin/sh"}, "limit_unknown", ["expected one of", "CPUQuota"]),
        ({"MemoryMax": "lots"}, "limit_invalid", ["ollama_unit_limits.MemoryMax", "'lots'", "32G"]),
        ({"MemoryMax": "1G\nExecStartPre=/bin/sh"}, "limit_invalid", ["MemoryMax"]),
        ({"CPUQuota": 400}, "limit_invalid", ["400%"]),
        ({"CPUWeight": 0}, "limit_invalid", ["0"]),
        ({"Nice": 20}, "limit_invalid", ["20"]),
        ({"MemoryMax": True}, "limit_invalid", ["True"]),
    ],
)
def test_limits_that_systemd_interprets_differently(limits: dict[str, Any], code: str, words: list[str]) -> None:
    error = refusal(replace(WANTED, limits=limits))
    assert error.code == code
    for word in words:
        assert word in error.message


def test_each_limits_example_is_allowed() -> None:
    host_request.check_limits({name: example for name, (_pattern, example) in host_request.LIMITS.items()})
    host_request.check_limits({"MemoryMax": "80%", "CPUWeight": 100, "AllowedCPUs": "0-3,8", "Nice": -5})


BASE, ROCM = "ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst"


def test_variants_need_their_own_checksums() -> None:
    wanted = replace(WANTED, variants=["rocm"])
    assert ROCM in refusal(wanted).message
    known = replace(wanted, checksums={BASE: SUM, ROCM: "cd" * 32})
    assert suitability.checksums_of(known, FRESH) == {BASE: SUM, ROCM: "sha256:" + "cd" * 32}
    assert refusal(replace(wanted, variants=["jetpack6"])).code == "variant_unsupported"


def test_what_was_fetched_once_counts() -> None:
    wanted = replace(WANTED, checksums={}, fetch_checksum=True)
    assert suitability.checksums_of(wanted, FRESH, {BASE: "cd" * 32}) == {BASE: "sha256:" + "cd" * 32}
    assert suitability.checksums_of(wanted, CONVERGED, {BASE: "cd" * 32}) == {BASE: SUM}
    assert refusal(replace(wanted, fetch_checksum=False), CONVERGED).code == "checksum_unknown"


def test_fetching_needs_permission_and_is_reported(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: FRESH)
    asked = []

    def fetch(*arguments: Any) -> dict[str, str]:
        asked.append(arguments)
        return {BASE: SUM}

    monkeypatch.setattr(preflight, "fetch_checksums", fetch)
    assert run_module(preflight, arguments(checksum=""))["failure"]["code"] == "checksum_unknown"
    assert asked == []
    result = run_module(preflight, arguments(checksum="", fetch_checksum=True, base_url="https://m"))
    assert [arguments[:3] for arguments in asked] == [("https://m", "0.35.1", None)]
    assert result["release"]["checksums"] == {BASE: SUM}
    assert any("ollama_release_checksums" in str(warning) for warning in result["warnings"])
    run_module(preflight, arguments(fetch_checksum=True))
    assert len(asked) == 1
