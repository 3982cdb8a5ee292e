# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories that cannot be used, and links of administrators."""

from __future__ import annotations

import os
import pwd
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    survey,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.ownership import Owner

from tests.unit.module_utils.preflight.trees import HOME, INSTALL, OWNER, SERVICE, Tree
from tests.unit.modules.preflight.hosts import (
    MODELS,
)

# An administrator's link


@pytest.mark.parametrize(
    ("path", "targets"),
    [
        (f"{MODELS}/blobs", ("/data/place",)),
        (f"{HOME}/.ollama", ("/data/place",)),
        (MODELS, ("/data/place",)),
    ],
)
def test_a_link_of_root_is_followed(tree: Tree, path: str, targets: tuple[str, ...]) -> None:
    tree.directory("/data", owner=Identity(0, 0), mode=0o755)
    tree.at(path).rename(tree.at("/data/place"))
    tree.link(path, "/data/place", Identity(0, 0))
    found = tree.survey()
    assert (found.targets, found.problems, found.wrong) == (targets, (), ())
    os.chown(tree.at("/data/place"), 0, 0)
    assert path in tree.survey().wrong
    tree.mend()
    assert tree.at("/data/place").stat().st_uid == SERVICE.uid
    assert tree.survey().wrong == ()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/srv/victim", "secret"),
        ("/etc", "belongs to the system"),
        ("/data/Big Disk", "mount --bind"),
    ],
)
def test_a_link_of_root_to_what_is_no_place_for_models(tree: Tree, target: str, words: str) -> None:
    tree.at(target).mkdir(parents=True, exist_ok=True)
    tree.link(f"{MODELS}/blobs", target, Identity(0, 0))
    problem = tree.survey().problems[0]
    assert (problem.code, words in problem.message) == ("store_unsafe", True)


@pytest.mark.parametrize("linked", ["", "/blobs", "/manifests", "/.."])
def test_a_link_to_a_disk_that_is_not_mounted_is_refused(tree: Tree, linked: str) -> None:
    """The directory would be created on the disk below the mount point."""
    path = os.path.normpath(MODELS + linked)
    tree.directory("/mnt", owner=Identity(0, 0))
    tree.link(path, "/mnt/big/models", Identity(0, 0))
    problem = tree.survey().problems[0]
    assert problem.code == "directory_not_mounted"
    assert problem.message.startswith(f"{path} leads to /mnt/big/models, which does not exist; mount its file system")
    tree.directory("/mnt/big/models")
    assert not [found for found in tree.survey().problems if found.code == "directory_not_mounted"]


def test_a_directory_below_a_link_may_be_missing(tree: Tree) -> None:
    tree.directory("/mnt/big", 0o755, Identity(0, 0))
    tree.link("/data", "/mnt/big", Identity(0, 0))
    assert survey.survey("/data/llm/models", INSTALL, HOME, OWNER, str(tree.root)).problems == ()


@pytest.mark.parametrize("models", ["/root/models", "/data/llm/models", "/link/models"])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("account", [SERVICE, None])
def test_a_directory_that_the_account_cannot_enter(
    tree: Tree, models: str, exists: bool, account: Identity | None
) -> None:
    """The server would run from it in its sandbox, and no module could ever read it again."""
    for path in ("/root", "/data/llm"):
        tree.directory(path, 0o700, Identity(0, 0))
    tree.link("/link", "/data/llm", Identity(0, 0))
    closed = "/root" if models.startswith("/root") else "/data/llm"
    if exists:
        tree.directory(f"{closed}/models/blobs")
    problem = survey.survey(models, INSTALL, HOME, Owner(account), str(tree.root)).problems[0]
    assert (problem.code, problem.path) == ("value_invalid", models)
    assert f"but {closed} has mode 0700 and belongs to user root" in problem.message
    tree.at(closed).chmod(0o711)
    found = survey.survey(models, INSTALL, HOME, Owner(account), str(tree.root)).problems
    assert not [item for item in found if "can enter" in item.message]


def test_a_link_to_a_disk_that_the_account_cannot_enter(tree: Tree) -> None:
    tree.directory(MODELS)
    tree.directory("/mnt/big", 0o700, Identity(0, 0))
    tree.directory("/mnt/big/blobs")
    tree.link(f"{MODELS}/blobs", "/mnt/big/blobs", Identity(0, 0))
    problem = tree.survey().problems[0]
    assert "but /mnt/big has mode 0700 and belongs to user root" in problem.message


class Flags(t.NamedTuple):
    f_flag: int


@pytest.mark.parametrize("flag", [os.ST_RDONLY, os.ST_RDONLY | os.ST_NOEXEC])
def test_mount_options_are_read(tree: Tree, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda _handle: Flags(flag))
    found = tree.survey()
    assert found.read_only == ("ollama_install_dir", "ollama_models_dir")
    noexec = [problem for problem in found.problems if "mounted noexec" in problem.message]
    assert [problem.path for problem in noexec] == ([INSTALL] if flag & os.ST_NOEXEC else [])


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda tree: tree.file("/data/m/letter", owner=Identity(0, 0)), "letter"),
        (lambda tree: tree.at("/data/m/letters").mkdir(), "letters"),
        (lambda tree: (tree.at("/data/m/blobs").mkdir(), tree.at("/data/m/photos").mkdir()), "photos"),
        (lambda tree: os.chown(tree.at("/data/m"), pwd.getpwnam("daemon").pw_uid, 0), "user daemon"),
        (lambda tree: (tree.at("/data/m").rmdir(), tree.file("/data/m", owner=Identity(0, 0))), "not a directory"),
    ],
)
def test_a_directory_with_files_of_others(tree: Tree, prepare: t.Callable[[Tree], t.Any], words: str) -> None:
    tree.directory("/data/m", owner=Identity(0, 0))
    prepare(tree)
    problems = tree.survey(models="/data/m").problems
    assert words in problems[0].message


@pytest.mark.parametrize(
    "entries", [[], ["lost+found"], ["blobs", "manifests"], ["blobs", "lost+found"], ["blobs", "manifests-v2", ".zfs"]]
)
def test_a_directory_that_is_empty_or_a_store(tree: Tree, entries: list[str]) -> None:
    tree.directory("/data/m", owner=Identity(0, 0))
    for name in entries:
        tree.at(f"/data/m/{name}").mkdir()
    assert tree.survey(models="/data/m").problems == ()
    tree.mend(models="/data/m")
    assert tree.at("/data/m").stat().st_uid == SERVICE.uid
    if "lost+found" in entries:
        assert tree.at("/data/m/lost+found").stat().st_uid == 0


def test_a_home_is_no_place_for_models(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = pwd.struct_passwd(("lab", "x", 1000, 1000, "", "/home/lab", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [lab])
    tree.directory("/home/lab", 0o755, Identity(0, 0))
    assert "home directory of user lab" in tree.survey(models="/home/lab").problems[0].message
    assert tree.survey(models="/home/lab/models").problems == ()


def test_a_path_that_leads_to_the_system(tree: Tree) -> None:
    tree.directory("/etc", owner=Identity(0, 0))
    tree.directory("/data", owner=Identity(0, 0))
    tree.link("/data/m", "/etc", Identity(0, 0))
    problem = tree.survey(models="/data/m").problems[0]
    assert (problem.code, "leads to /etc" in problem.message) == ("value_invalid", True)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda tree: tree.file("/opt/ollama/theirs", owner=Identity(0, 0)), "theirs"),
        (lambda tree: tree.give("/opt/ollama"), "only root can change"),
        (lambda tree: tree.give("/opt"), "only root can change"),
        (lambda tree: tree.at("/opt").chmod(0o777), "only root can change"),
        (lambda tree: (tree.at("/opt/ollama").rmdir(), tree.link("/opt/ollama", "/srv/victim")), "symbolic link"),
    ],
)
def test_a_directory_that_is_not_for_releases(tree: Tree, prepare: t.Callable[[Tree], t.Any], words: str) -> None:
    tree.directory("/opt/ollama", 0o755, Identity(0, 0))
    assert tree.survey().problems == ()
    prepare(tree)
    assert words in tree.survey().problems[0].message
