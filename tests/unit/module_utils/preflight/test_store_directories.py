# SPDX-License-Identifier: GPL-3.0-or-later
"""The module changes only what is wrong."""

from __future__ import annotations

import os

import pytest
from ansible_collections.kaido.ollama.plugins.modules import store_directories

from tests.unit.conftest import RunModule
from tests.unit.module_utils.preflight.trees import HOME, SERVICE, Tree
from tests.unit.modules.preflight.hosts import (
    MODELS,
)

# The module


def test_the_module_changes_only_what_is_wrong(
    tree: Tree, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_directories, "_identity", lambda *_: SERVICE)
    blobs = f"{tree.root}{MODELS}/blobs"
    params = {"home": f"{tree.root}{HOME}", "models_dir": f"{tree.root}{MODELS}/"}
    assert run_module(store_directories, params)["changed"] is False
    os.chown(blobs, 0, 0)
    predicted = run_module(store_directories, params, check=True)
    assert (predicted["changed"], predicted["paths"], os.stat(blobs).st_uid) == (True, [blobs], 0)
    assert run_module(store_directories, params)["paths"] == [blobs]
    assert os.stat(blobs).st_uid == SERVICE.uid
    tree.link(f"{MODELS}/blobs", "/srv/victim")
    assert run_module(store_directories, params)["failure"]["code"] == "store_unsafe"


def test_the_module_without_an_account(tree: Tree, run_module: RunModule) -> None:
    params = {"user": "kaido-none", "home": f"{tree.root}/new", "models_dir": f"{tree.root}/new/m"}
    assert run_module(store_directories, params, check=True)["paths"] == [params["home"], params["models_dir"]]
    assert run_module(store_directories, params)["failure"]["code"] == "account_missing"
    assert not tree.at("/new").exists()


def test_check_mode_predicts_for_an_account_that_does_not_exist_yet(
    tree: Tree, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that an administrator has mounted belongs to root before the account is created."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    models = tree.root / "disk"
    models.mkdir(mode=0o755)
    arguments = {"models_dir": str(models), "home": str(tree.root / "home"), "user": "not-here", "group": "not-here"}
    result = run_module(store_directories, arguments, check=True)
    assert not result["failed"], result
    assert str(models) in result["paths"]


def test_the_module_requires_root(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run_module(store_directories, {})["failure"]["code"] == "root_required"
