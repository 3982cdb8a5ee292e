# SPDX-License-Identifier: GPL-3.0-or-later
"""The survey of a store that its owner has planted."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity

from tests.unit.module_utils.preflight.trees import BLOB, TAG, Tree, gathered
from tests.unit.modules.preflight.hosts import (
    CONVERGED,
    MODELS,
    WANTED,
    refusal,
)

# H4: preflight reads a store as its owner, without end and without waiting


def test_a_fifo_does_not_block(tree: Tree) -> None:
    os.mkfifo(tree.at(f"{MODELS}/blobs/{BLOB}-partial-0"))
    os.mkfifo(tree.at(f"{MODELS}/manifests/registry.ollama.ai/library/tiny/fifo"))
    assert gathered(tree).store.largest == 5


@pytest.mark.parametrize("target", ["/", "/srv/victim"])
def test_a_planted_tree_of_manifests_is_not_read(tree: Tree, target: str) -> None:
    tree.link(f"{MODELS}/manifests", target)
    host = gathered(tree)
    assert host.store.generation is None
    assert host.directories.problems[0].path == f"{MODELS}/manifests"


def test_a_manifest_that_links_to_a_secret_discloses_nothing(tree: Tree) -> None:
    secret = tree.file("/srv/victim/big", json.dumps({"layers": [{"size": 777}]}), 0o600, Identity(0, 0))
    tree.at(f"{MODELS}/manifests/registry.ollama.ai/library/tiny/x").symlink_to(secret)
    assert gathered(tree).store.largest == 5


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        '{"layers": null}',
        '{"layers": [1]}',
        '{"layers": [{"size": "1"}]}',
        "[" * 100000,
        "ÿ",
        '{"layers": [{"size": Infinity}]}',
        '{"layers": [{"size": NaN}]}',
        '{"layers": [{"size": -5}]}',
    ],
)
def test_manifests_of_any_content(tree: Tree, content: str) -> None:
    tree.file(f"{MODELS}/manifests/registry.ollama.ai/library/tiny/odd", content)
    assert gathered(tree).store.largest == 5


def test_a_model_of_no_possible_size_is_refused_in_one_line(tree: Tree) -> None:
    tree.file(f"{MODELS}/{TAG}", json.dumps({"layers": [{"size": 10**400}]}))
    wanted = replace(WANTED, version="0.40.2", accept_store_migration=True, checksum="ab" * 32)
    assert refusal(wanted, replace(CONVERGED, store=gathered(tree).store)).code == "disk_full"
