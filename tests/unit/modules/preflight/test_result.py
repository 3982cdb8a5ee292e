# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module returns."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import verification
from ansible_collections.kaido.ollama.plugins.module_utils._models import call
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import host_facts
from ansible_collections.kaido.ollama.plugins.modules import preflight

from tests.conftest import ROOT
from tests.unit.conftest import RunModule
from tests.unit.modules.preflight.hosts import CONVERGED, FRESH, SUM, arguments


def test_the_module_requires_root(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = run_module(preflight, arguments())
    assert result["failure"]["code"] == "root_required"
    assert "become: true" in result["msg"]


def test_the_modules_result(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: FRESH)
    environment = json.dumps({"HTTPS_PROXY": "http://me:hunter2@p:1", "A": "1"})
    result = run_module(preflight, arguments(settings={"host": "127.0.0.1:11555"}, environment=environment))
    assert result["changed"] is False
    assert result["todo"] == list(result["reasons"])
    assert result["api_url"] == "http://127.0.0.1:11555"
    assert result["environment"]["OLLAMA_HOST"] == result["address"] == "127.0.0.1:11555"
    archive = "ollama-linux-amd64.tar.zst"
    assert result["release"] == {
        "version": "0.35.1",
        "variants": [],
        "before": None,
        "checksums": {archive: SUM},
        "missing": [archive],
    }
    assert result["adopts"] is None
    assert result["running"] is False
    assert "hunter2" not in json.dumps(result)


@pytest.mark.parametrize(
    ("gpu", "sums", "variants", "says"),
    [
        ("preferred", {"ollama-linux-amd64-rocm.tar.zst": SUM}, ["rocm"], ""),
        ("required", {"ollama-linux-amd64-rocm.tar.zst": SUM}, ["rocm"], ""),
        ("off", {"ollama-linux-amd64-rocm.tar.zst": SUM}, [], ""),
        ("preferred", {}, [], "this host's GPU needs the archive rocm of 0.35.1, and without it the CPU is used"),
        ("required", {}, None, "this host's GPU needs the archive rocm of 0.35.1"),
    ],
)
def test_the_archive_for_an_amd_gpu_is_chosen(
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    sums: dict[str, str],
    variants: list[str] | None,
    says: str,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: FRESH)
    monkeypatch.setattr(verification, "overview", lambda *_: {"count": 1, "usable": True, "variant": "rocm"})
    result = run_module(preflight, arguments(gpu=gpu, checksums=sums))
    if variants is None:
        assert result["failure"]["code"] == "checksum_unknown"
        assert says in result["msg"]
        return
    assert result["release"]["variants"] == variants
    assert len(result["release"]["checksums"]) == 1 + len(variants)
    assert says in "".join(result.get("warnings", []))
    assert bool(result.get("warnings")) == bool(says)
    assert bool(result["gpu"]) == (gpu != "off")


def test_the_module_returns_releases_for_a_rollback(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: CONVERGED)
    result = run_module(preflight, arguments(version="0.35.0"))
    assert (result["release"]["before"], result["release"]["missing"]) == ("0.35.1", [])
    assert "release" in result["todo"]


@pytest.mark.parametrize(
    ("found", "driver_pending", "refused"),
    [
        ({"count": 0, "usable": False}, False, True),
        ({"count": 0, "usable": False}, True, True),
        ({"count": 1, "usable": False}, False, True),
        ({"count": 1, "usable": False}, True, False),
        ({"count": 1, "usable": True}, False, False),
    ],
)
@pytest.mark.parametrize("gpu", ["required", "preferred"])
def test_a_required_gpu_that_is_absent_is_refused_before_anything_is_downloaded(
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    found: dict[str, Any],
    driver_pending: bool,
    refused: bool,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: FRESH)
    monkeypatch.setattr(verification, "overview", lambda *_: {**found, "summary": "no GPU", "variant": ""})
    result = run_module(preflight, arguments(gpu=gpu, driver_pending=driver_pending), check=True)
    assert result["failed"] == (refused and gpu == "required")
    if result["failed"]:
        assert result["failure"]["code"] == "gpu_unusable"
        assert "ollama_gpu: required" in result["msg"]


@pytest.mark.parametrize("version", ["0.35.1", "0.35.0"])
def test_the_models_are_compared_where_the_server_has_no_pending_step(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    calls: list[dict[str, Any]] = []

    def unchanged(given: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        calls.append({**given, "check_mode": check_mode})
        return {"changed": False, "models": [], "warnings": ["one"]}

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: CONVERGED)
    monkeypatch.setattr(call, "unchanged", unchanged)
    result = run_module(
        preflight,
        arguments(version=version, models=["a"], lock={}, model={"verify": "full"}, mirrors=["http://m:1"]),
        check=True,
    )
    if result["todo"]:
        assert (result["models"], calls) == (None, [])
        return
    assert result["models"] == {"changed": False, "models": []}
    assert result["warnings"] == ["one"]
    (given,) = calls
    assert given.pop("check_mode") is True
    assert (given["models"], given["verify"], given["mirrors"]) == (["a"], "full", ["http://m:1"])
    assert given["server"]["version"] == version
    tasks = yaml.safe_load((ROOT / "roles/ollama/tasks/models.yml").read_text())
    (options,) = (task["kaido.ollama.model"] for task in tasks if "kaido.ollama.model" in task)
    role = yaml.safe_load((ROOT / "roles/ollama/vars/main.yml").read_text())["ollama__model"]
    # It waits for a server that starts, which has a pending step.
    assert {*given, *role} == options.keys() - {"startup_timeout"}
    assert given["server"].keys() == options["server"].keys()


def test_the_models_are_not_compared_without_options_of_the_module(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host_facts, "gather", lambda *_: CONVERGED)
    monkeypatch.setattr(call, "unchanged", lambda *_: pytest.fail("it was called"))
    assert run_module(preflight, arguments(models=["a"]))["models"] is None
