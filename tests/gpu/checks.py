# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison of gpu_info with nvidia-smi on a real GPU, and a test of a model on it.

OLLAMA_URL is the server, http://127.0.0.1:11434 by default; its smallest model is tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import gpu_info, model_probe

URL = os.environ.get("OLLAMA_URL", "http://127.0.0.1:11434")


@pytest.fixture
def found(run_module: t.Any) -> dict[str, t.Any]:
    result: dict[str, t.Any] = run_module(gpu_info, {})
    assert not result["failed"], result["msg"]
    return result


def test_it_agrees_with_nvidia_smi(found: dict[str, t.Any]) -> None:
    if not shutil.which("nvidia-smi"):
        pytest.skip("no nvidia-smi here")
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,compute_cap",
        "--format=csv,noheader,nounits",
    ]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    cards = [gpu for gpu in found["gpus"] if gpu["vendor"] == "nvidia"]
    assert [
        [gpu["name"], found["nvidia"]["loaded"], str((gpu["vram"] or 0) >> 20), gpu["compute_capability"]]
        for gpu in cards
    ] == [row.split(", ") for row in rows]


def test_each_gpu_has_a_verdict_and_a_reason(found: dict[str, t.Any]) -> None:
    for gpu in found["gpus"]:
        assert gpu["usable"] == (gpu["state"] == "ok")
        assert (gpu["reason"] is None) == gpu["usable"]
    print(found["summary"])


def test_the_same_gpus_are_found_without_programs(run_module: t.Any, found: dict[str, t.Any], tmp_path: t.Any) -> None:
    (tmp_path / "root").symlink_to("/")
    alone = run_module(gpu_info, {"root": str(tmp_path / "root")})
    assert [gpu["pci_address"] for gpu in alone["gpus"]] == [gpu["pci_address"] for gpu in found["gpus"]]
    assert [gpu["state"] for gpu in alone["gpus"]] == [gpu["state"] for gpu in found["gpus"]]


def test_a_model_runs_on_the_repaired_server(run_module: t.Any, found: dict[str, t.Any]) -> None:
    if not found["usable"]:
        pytest.skip(f"no GPU that can be used: {found['summary']}")
    try:
        models = Client(URL).tags()
    except OllamaError:
        pytest.skip(f"no server at {URL}")
    if not models:
        pytest.skip("the server has no model")
    smallest = min(models, key=lambda row: int(row["size"]))["name"]
    asked = {"api_url": URL, "name": smallest, "require_gpu": True, "unit": "ollama.service"}
    result = run_module(model_probe, asked)
    assert not result["failed"], result["msg"]
    assert (result["vram_share"], result["gpu_problem"]) == (1.0, None)
