# SPDX-License-Identifier: GPL-3.0-or-later
"""Uninstalling follows no link of the service account."""

from __future__ import annotations

import os
import pwd
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import account_files

from tests.unit.module_utils.preflight.trees import HOME, OTHER, SERVICE, Tree
from tests.unit.modules.preflight.hosts import (
    MODELS,
)

# C4: uninstalling removes no more than the store


@pytest.mark.parametrize(
    "path",
    [
        f"{MODELS}/manifests-v2",
        f"{MODELS}/manifests",
        f"{MODELS}/blobs",
        f"{HOME}/.ollama/logs",
        f"{HOME}/.ollama/cache",
        f"{HOME}/.ollama",
        MODELS,
    ],
)
def test_uninstalling_follows_no_planted_link(tree: Tree, path: str) -> None:
    before = tree.victims()
    tree.link(path, "/srv/victim")
    _plan, kept = tree.uninstall()
    assert tree.victims() == before
    assert tree.at(path).is_symlink()
    assert any("symbolic link" in reason for reason in kept.values())
    assert not tree.uninstall()[0].steps


def test_uninstalling_removes_links_in_the_store_only(tree: Tree) -> None:
    before = tree.victims()
    for path in (f"{MODELS}/manifests/evil", f"{MODELS}/manifests/registry.ollama.ai/library/evil"):
        tree.link(path, "/srv/victim")
    tree.link(f"{MODELS}/blobs/sha256-{'cd' * 32}", "/srv/victim")
    tree.link(f"{HOME}/.ollama/id_ed25519.pub", "/srv/victim/secret")
    assert tree.uninstall()[1] == {}
    assert tree.victims() == before
    assert not tree.at(HOME).exists()


def test_uninstalling_removes_what_root_left_in_the_store(tree: Tree) -> None:
    tree.at("/usr/share").chmod(0o711)
    tree.directory(f"{MODELS}/manifests/registry.ollama.ai/library/tiny", 0o700, Identity(0, 0))
    assert tree.uninstall()[1] == {}
    assert not tree.at(HOME).exists()


def test_uninstalling_empties_the_target_of_an_administrators_link(tree: Tree) -> None:
    tree.directory("/data", owner=Identity(0, 0), mode=0o755)
    tree.at(f"{MODELS}/blobs").rename(tree.at("/data/blobs"))
    tree.file("/data/blobs/theirs")
    tree.at("/data/blobs/theirs").unlink()
    tree.link(f"{MODELS}/blobs", "/data/blobs", Identity(0, 0))
    kept = tree.uninstall()[1]
    assert list(kept) == ["/data/blobs"]
    assert list(tree.at("/data").rglob("*")) == [tree.at("/data/blobs")]
    assert not tree.at(HOME).exists()


def exchange_before_reading(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, path: str, put: t.Callable[[], None], reading: int = 1
) -> list[str]:
    """Let the account exchange an entry right before the n-th link is read; return the links that were read."""
    read, done = os.readlink, []

    def readlink(name: str, *, dir_fd: int | None = None) -> str:
        done.append(name)
        if len(done) == reading:
            tree.at(path).unlink()
            put()
        return read(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", readlink)
    return done


def test_a_link_that_the_account_exchanges_is_not_followed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.directory("/data", owner=Identity(0, 0), mode=0o755)
    tree.at(f"{MODELS}/blobs").rename(tree.at("/data/blobs"))
    tree.link(f"{MODELS}/blobs", "/data/blobs", Identity(0, 0))
    tree.at("/srv/victim/sub").chmod(0o755)
    before = tree.victims()
    exchanged = exchange_before_reading(
        tree, monkeypatch, f"{MODELS}/blobs", lambda: tree.link(f"{MODELS}/blobs", "/srv/victim")
    )
    tree.mend()
    assert exchanged
    assert tree.victims() == before


@pytest.mark.parametrize("reading", range(1, 9))
@pytest.mark.parametrize("kind", ["directory", "nothing"])
def test_an_entry_that_the_account_exchanges_is_left(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, kind: str, reading: int
) -> None:
    tree.directory("/data", owner=Identity(0, 0), mode=0o755)
    tree.at(f"{MODELS}/blobs").rename(tree.at("/data/blobs"))
    tree.link(f"{MODELS}/blobs", "/data/blobs", Identity(0, 0))
    before = tree.victims()
    read = exchange_before_reading(
        tree,
        monkeypatch,
        f"{MODELS}/blobs",
        lambda: None if kind == "nothing" else tree.at(f"{MODELS}/blobs").mkdir(),
        reading,
    )
    tree.uninstall()
    assert len(read) >= reading
    assert tree.victims() == before


@pytest.mark.parametrize("kind", ["hard link", "nothing"])
def test_a_file_that_the_account_exchanges_keeps_its_owner(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    victim = tree.file("/srv/theirs", owner=OTHER)
    planted = tree.file(f"{MODELS}/planted")
    look = account_files._lstat

    def exchange(name: str, parent: int) -> os.stat_result | None:
        info = look(name, parent)
        if name == "planted":
            planted.unlink()
            if kind == "hard link":
                planted.hardlink_to(victim)
        return info

    monkeypatch.setattr(account_files, "_lstat", exchange)
    account = pwd.struct_passwd(("ollama", "x", SERVICE.uid, SERVICE.gid, "", HOME, "/bin/false"))
    assert account_files.AccountFiles(HOME, MODELS, str(tree.root)).give_to_root(account) > 0
    assert victim.stat().st_uid == OTHER.uid
    assert tree.at(MODELS).stat().st_uid == 0
