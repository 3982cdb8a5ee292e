# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service account plants in its home and its store is neither given to it nor changed.

The rows C2, C4 and H4 of the threat model, each with its kind: every directory and file of a store as a link, a FIFO, a
hard link or a directory.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import threading
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    ownership,
    survey,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.ownership import Owner

from tests.unit.module_utils.preflight.trees import BLOB, HOME, OWNER, SERVICE, TAG, Tree
from tests.unit.modules.preflight.hosts import (
    MODELS,
)


def test_a_store_in_the_desired_state(tree: Tree) -> None:
    assert tree.survey() == survey.Survey()
    assert tree.mend() == []


# C2: ownership is not handed out through a link

DIRECTORIES = [
    f"{HOME}/.ollama",
    MODELS,
    f"{MODELS}/blobs",
    f"{MODELS}/manifests",
    f"{MODELS}/manifests-v2",
    f"{MODELS}/manifests/registry.ollama.ai",
    f"{MODELS}/manifests/registry.ollama.ai/library",
    f"{MODELS}/manifests/registry.ollama.ai/library/tiny",
]


@pytest.mark.parametrize("target", ["/srv/victim", "../../../../../../../../srv/victim", "/", "/missing", "."])
@pytest.mark.parametrize("path", DIRECTORIES)
def test_a_link_in_the_place_of_a_directory_is_refused_by_name(tree: Tree, path: str, target: str) -> None:
    before = tree.victims()
    tree.link(path, target)
    problems = tree.survey().problems
    assert {(problem.code, problem.path) for problem in problems} >= {("store_unsafe", path)}
    assert "symbolic link" in problems[0].message
    assert "remove it" in problems[0].message
    assert "\n" not in problems[0].message
    with pytest.raises(OllamaError, match="symbolic link") as caught:
        tree.mend()
    assert caught.value.code == "store_unsafe"
    assert tree.victims() == before


FILES = [f"{MODELS}/blobs/{BLOB}", f"{MODELS}/{TAG}", f"{HOME}/.ollama/id_ed25519", f"{MODELS}/blobs/x"]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("kind", ["link", "link to a directory", "fifo", "directory", "device"])
def test_what_is_no_file_gets_no_other_owner(tree: Tree, path: str, kind: str) -> None:
    before = tree.victims()
    target = tree.at(path)
    target.unlink(missing_ok=True)
    if kind.startswith("link"):
        target.symlink_to(tree.at("/srv/victim") if "directory" in kind else tree.at("/srv/victim/secret"))
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    else:
        os.mknod(target, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    tree.mend()
    assert target.lstat().st_uid == 0
    assert tree.victims() == before


@pytest.mark.parametrize("path", FILES[:3])
def test_a_hard_link_to_a_file_of_root_is_refused(tree: Tree, path: str) -> None:
    tree.at(path).unlink()
    os.link(tree.at("/srv/victim/secret"), tree.at(path))
    before = tree.victims()
    assert [(problem.code, problem.path) for problem in tree.survey().problems] == [("store_unsafe", path)]
    with pytest.raises(OllamaError, match="2 hard links"):
        tree.mend()
    assert tree.victims() == before


@pytest.mark.parametrize(
    "name", [f"{MODELS}/blobs/passwords", f"{HOME}/.ollama/backup", f"{HOME}/.bashrc", f"{MODELS}/notes", f"{HOME}/x"]
)
def test_a_file_that_is_no_part_of_a_store_keeps_its_owner(tree: Tree, name: str) -> None:
    tree.file(name, owner=Identity(0, 0), mode=0o600)
    tree.mend()
    assert (tree.at(name).stat().st_uid, tree.at(name).stat().st_mode & 0o777) == (0, 0o600)


def test_names_that_are_no_utf_8_are_left_alone(tree: Tree) -> None:
    for parent in ("blobs", "manifests"):
        with open(os.fsencode(tree.at(f"{MODELS}/{parent}")) + b"/\xff\xfe", "w"):
            pass
    assert tree.survey() == survey.Survey()
    assert tree.mend() == []


def test_a_file_of_another_user_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    tree.file(f"{MODELS}/blobs/{BLOB}", owner=Identity(nobody.pw_uid, nobody.pw_gid))
    assert "belongs to user nobody" in tree.survey().problems[0].message
    assert tree.survey(Owner(SERVICE, frozenset({nobody.pw_uid}))).wrong == (f"{MODELS}/blobs/{BLOB}",)


def test_a_directory_that_is_constantly_exchanged_discloses_nothing(tree: Tree) -> None:
    before = tree.victims()
    blobs = tree.at(f"{MODELS}/blobs")
    tree.link(f"{MODELS}/evil", str(tree.at("/srv/victim")))
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            blobs.rename(str(blobs) + ".away")
            tree.at(f"{MODELS}/evil").rename(blobs)
            blobs.rename(tree.at(f"{MODELS}/evil"))
            tree.at(f"{MODELS}/blobs.away").rename(blobs)

    attacker = threading.Thread(target=exchange)
    attacker.start()
    try:
        for _attempt in range(300):
            os.chown(tree.at(f"{MODELS}/{TAG}"), 0, 0)
            try:
                tree.mend()
            except OllamaError as exc:
                assert exc.code in ("store_unsafe", "owner_not_changed")  # noqa: PT017 - it need not be raised
    finally:
        stop.set()
        attacker.join()
    assert tree.victims() == before


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, 0])
def test_a_file_system_that_keeps_no_owners(tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def chown(*_arguments: t.Any) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    tree.directory(f"{MODELS}/blobs", owner=Identity(0, 0))
    monkeypatch.setattr("os.fchown", chown)
    with pytest.raises(OllamaError, match="cannot set its owner") as caught:
        tree.mend()
    assert caught.value.code == "owner_not_changed"


def test_what_root_made_in_the_store_is_given_back(tree: Tree) -> None:
    root = Identity(0, 0)
    wrong = {
        f"{MODELS}/manifests/registry.ollama.ai/library/tiny": 0o700,
        f"{MODELS}/blobs": 0o700,
        f"{MODELS}/blobs/{BLOB}-partial": 0o600,
        f"{MODELS}/blobs/{BLOB}-partial-0": 0o600,
        f"{HOME}/.ollama/id_ed25519": 0o644,
        f"{MODELS}/{TAG}": 0o600,
    }
    for path, mode in wrong.items():
        if tree.at(path).is_dir():
            tree.directory(path, mode, root)
        else:
            tree.file(path, mode=mode, owner=root)
    assert set(tree.survey().wrong) == set(wrong)
    assert set(tree.mend()) == set(wrong)
    assert tree.survey() == survey.Survey()
    assert {tree.at(path).stat().st_uid for path in wrong} == {SERVICE.uid}
    assert tree.at(f"{HOME}/.ollama/id_ed25519").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o757, 0o777])
def test_what_others_can_write_to_is_closed(tree: Tree, mode: int) -> None:
    tree.directory(f"{MODELS}/blobs", mode)
    tree.mend()
    assert tree.at(f"{MODELS}/blobs").stat().st_mode & 0o777 == mode & ~0o022


def test_directories_are_created_for_the_account(tree: Tree) -> None:
    for path, parent_owner in (("/data/deep/models", 0), (f"{HOME}/own/models", SERVICE.uid)):
        assert path in tree.survey(models=path).wrong
        assert path in tree.mend(models=path)
        info = tree.at(path).stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (SERVICE.uid, SERVICE.gid, 0o750)
        assert tree.at(os.path.dirname(path)).stat().st_uid == parent_owner


def test_a_store_that_its_group_cannot_read(tree: Tree) -> None:
    closed = (HOME, f"{HOME}/.ollama", MODELS, f"{MODELS}/blobs")
    for path in closed:
        tree.at(path).chmod(0o700)
    tree.at(f"{MODELS}/blobs/{BLOB}").chmod(0o600)
    assert tree.survey() == survey.Survey()
    shared = replace(OWNER, shared=True)
    assert set(tree.mend(shared)) == {*closed, f"{MODELS}/blobs/{BLOB}"}
    assert tree.at(f"{MODELS}/blobs/{BLOB}").stat().st_mode & 0o777 == 0o640
    assert tree.at(f"{HOME}/.ollama/id_ed25519").stat().st_mode & 0o777 == 0o600
    assert tree.survey(shared) == survey.Survey()


def test_a_tree_without_end_is_not_read_to_its_end(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MAX_ENTRIES", 3)
    for number in range(5):
        tree.file(f"{MODELS}/blobs/{number}")
    assert "more than 3 entries" in tree.survey().problems[0].message


def test_a_file_whose_owner_cannot_be_set_is_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Immutable files, read-only disks and file systems without owners."""
    path = f"{MODELS}/{TAG}"
    tree.give(path, Identity(0, 0))

    def refused(*_arguments: t.Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.fchown", refused)
    with pytest.raises(OllamaError) as caught:
        tree.mend()
    assert (caught.value.code, caught.value.details["path"]) == ("owner_not_changed", path)
    assert caught.value.message.endswith("cannot set its owner: Operation not permitted")
