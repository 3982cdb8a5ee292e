# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_info against the stand-in."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model_info

from tests import standin
from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"


@pytest.mark.parametrize(("version", "store"), [("0.35.1", "store-v1"), ("0.40.2", "store-v2")])
def test_models_are_listed_with_what_is_known(run_module: t.Any, tmp_path: Path, version: str, store: str) -> None:
    shutil.copytree(FIXTURES / store, tmp_path / "models", symlinks=True)
    with standin.running(version, tmp_path / "models") as server:
        Client(server.url).generate({"model": "tiny"}, timeout=10)
        for check in (True, False):
            result = run_module(model_info, {"api_url": server.url, "names": ["TINY"]}, check=check)
            assert (result["changed"], result["can_talk_to_ollama"], result["version"]) == (False, True, version)
            [row] = result["models"]
        assert row["digest"] == "sha256:955b7d0ce6491dde9bb72dc68240c1a84efb00c3d30e0601df71aae366078427"
        assert (row["size"], row["format"], row["family"], row["parameter_size"]) == (475413, "gguf", "llama", "117K")
        assert row["capabilities"] == ["completion"]
        assert row["context_length"] == 256
        assert (row["loaded"], row["vram_share"]) == (True, 0.0)
        assert row["loaded_until"]
        rest = run_module(model_info, {"api_url": server.url, "names": ["kaido/tiny2:q8"]})["models"]
        assert [(item["loaded"], item["loaded_until"], item["vram_share"]) for item in rest] == [(False, None, None)]
        names = [item["name"] for item in run_module(model_info, {"api_url": server.url})["models"]]
        assert len(names) == len(set(names)) >= 2
        assert run_module(model_info, {"api_url": server.url, "names": ["nope"]})["models"] == []


def test_a_server_on_the_gpu_is_reported(run_module: t.Any, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "store-v1", tmp_path / "models")
    with standin.running("0.35.1", tmp_path / "models", {"STANDIN_GPU": "cuda:24564"}) as server:
        Client(server.url).generate({"model": "tiny"}, timeout=10)
        [row] = run_module(model_info, {"api_url": server.url, "names": ["tiny"]})["models"]
        assert row["vram_share"] == 1.0


def test_a_server_that_is_down_is_a_failure_or_a_fact(run_module: t.Any) -> None:
    result = run_module(model_info, {"api_url": "http://127.0.0.1:1"})
    assert result["failure"]["code"] == "server_unreachable"
    assert result["can_talk_to_ollama"] is False
    result = run_module(model_info, {"api_url": "http://127.0.0.1:1", "fail_when_down": False})
    assert (result["failed"], result["can_talk_to_ollama"], result["models"]) == (False, False, [])
