# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service account plants in its home and its store, and what root then does: with two real user IDs.

The rows C2, C4, H4 and A1 of the threat model, each with its kind: every directory and file of a store as a link, a
FIFO, a hard link or a directory.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import stat
import threading
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible import template as ansible_template
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.host import is_mount_point
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
    host_request,
    ownership,
    paths,
    survey,
    unit_file,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import uninstall as uninstall_module
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    AccountFacts,
    HostFacts,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.ownership import Owner
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.store_facts import StoreFacts
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.uninstall import UninstallRequest
from ansible_collections.kaido.ollama.plugins.modules import preflight, store_directories

from tests.conftest import ROOT
from tests.unit.conftest import RunModule
from tests.unit.modules.test_preflight import (
    BARE,
    CONVERGED,
    FOREIGN,
    MODELS,
    UNIT,
    WANTED,
    arguments,
    examine,
    refusal,
    show,
)

SERVICE = Identity(64101, 64101)
OTHER = Identity(64102, 64102)
HOME = "/usr/share/ollama"
INSTALL = "/opt/ollama"
BLOB = "sha256-" + "ab" * 32
TAG = "manifests/registry.ollama.ai/library/tiny/latest"
OWNER = Owner(SERVICE)


class Tree:
    """A host's file system below a directory, with the store of an account."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def give(self, path: str, owner: Identity = SERVICE) -> None:
        os.chown(self.at(path), owner.uid, owner.gid, follow_symlinks=False)

    def directory(self, path: str, mode: int = 0o750, owner: Identity = SERVICE) -> Path:
        if not self.at(path).exists():
            self.at(path).mkdir(parents=True)
        self.at(path).chmod(mode)
        self.give(path, owner)
        return self.at(path)

    def file(self, path: str, content: str = "x", mode: int = 0o640, owner: Identity = SERVICE) -> Path:
        self.at(path).write_text(content)
        self.at(path).chmod(mode)
        self.give(path, owner)
        return self.at(path)

    def link(self, path: str, target: str, owner: Identity = SERVICE) -> None:
        """Put a link in the place of whatever is there."""
        if self.at(path).is_dir():
            self.at(path).rename(str(self.at(path)) + ".before")
        elif self.at(path).exists():
            self.at(path).unlink()
        self.at(path).symlink_to(target)
        self.give(path, owner)

    def survey(self, owner: Owner = OWNER, models: str = MODELS) -> survey.Survey:
        return survey.survey(models, INSTALL, HOME, owner, str(self.root))

    def mend(self, owner: Owner = OWNER, models: str = MODELS) -> list[str]:
        return ownership.mend(HOME, models, owner, str(self.root))

    def victims(self) -> dict[str, tuple[int, int, int]]:
        """Return owner, group and mode of everything below /srv."""
        infos = {str(path): path.lstat() for path in [self.at("/srv"), *self.at("/srv").rglob("*")]}
        return {path: (info.st_uid, info.st_gid, info.st_mode) for path, info in infos.items()}

    def uninstall(self) -> tuple[uninstall_module.UninstallPlan, dict[str, str]]:
        wanted = UninstallRequest(remove_models=True)
        seen = uninstall_module.gather(wanted, str(self.root), {})
        plan = uninstall_module.plan(seen, wanted)
        late = uninstall_module.Removal(seen, wanted, str(self.root), lambda *_, check=True: None).apply(plan.steps)
        return plan, {**plan.kept, **late}


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Tree:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    tree = Tree(tmp_path)
    for path in (HOME, HOME + "/.ollama", MODELS, f"{MODELS}/blobs", f"{MODELS}/manifests"):
        tree.directory(path)
    for path in ("registry.ollama.ai", "registry.ollama.ai/library", "registry.ollama.ai/library/tiny"):
        tree.directory(f"{MODELS}/manifests/{path}")
    tree.directory("/srv/victim/sub", owner=Identity(0, 0), mode=0o700)
    tree.file("/srv/victim/secret", mode=0o600, owner=Identity(0, 0))
    tree.file(f"/srv/victim/{BLOB}", mode=0o600, owner=Identity(0, 0))
    tree.file(f"{MODELS}/{TAG}", json.dumps({"layers": [{"size": 5}]}))
    tree.file(f"{MODELS}/blobs/{BLOB}")
    tree.file(f"{HOME}/.ollama/id_ed25519", mode=0o600)
    tree.directory("/proc", owner=Identity(0, 0))
    tree.directory("/opt", mode=0o755, owner=Identity(0, 0))
    return tree


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
    ("variable", "host", "refused"),
    [
        ("ollama_install_dir", BARE, True),
        ("ollama_install_dir", CONVERGED, False),
        ("ollama_models_dir", CONVERGED, False),
        ("ollama_models_dir", replace(CONVERGED, directories=survey.Survey(wrong=(MODELS,))), True),
    ],
)
def test_a_read_only_file_system_is_refused_where_something_has_to_be_written(
    variable: str, host: HostFacts, refused: bool
) -> None:
    host = replace(host, directories=replace(host.directories, read_only=(variable,)))
    if not refused:
        examine(WANTED, host)
        return
    error = refusal(WANTED, host)
    assert (error.code, error.details["variable"]) == ("filesystem_read_only", variable)


def test_the_unit_gets_the_targets_of_links() -> None:
    unit = (
        "[Unit]\nRequiresMountsFor=/m\n[Service]\nProtectSystem=strict\nReadWritePaths=/h /m\nProtectHome=true\nX=1\n"
    )
    assert unit_file.unit_with_targets(unit, ()) == unit
    lines = unit_file.unit_with_targets(unit, ["/data/b"]).splitlines()
    assert [line for line in lines if "/data" in line] == ["RequiresMountsFor=/data/b", "ReadWritePaths=/data/b"]
    assert "ProtectHome=true" in lines
    lines = unit_file.unit_with_targets(unit, ["/home/lab/b"]).splitlines()
    assert {"ProtectHome=tmpfs", "BindPaths=/home/lab/b", "ReadWritePaths=/home/lab/b", "X=1"} <= set(lines)
    assert "ProtectHome=true" not in lines


def test_the_lines_that_are_changed_for_links_are_in_the_template() -> None:
    template = (ROOT / "roles/ollama/templates/ollama.service.j2").read_text().splitlines()
    assert {"ProtectHome=true", "ProtectHome=tmpfs"} <= set(template)
    for start in ("RequiresMountsFor=", "ReadWritePaths="):
        assert [line for line in template if line.startswith(start)]


# H4: preflight reads a store as its owner, without end and without waiting


def look(tree: Tree, version: str = "0.40.2") -> HostFacts:
    return host_facts.gather(replace(WANTED, version=version), 11434, str(tree.root), {})


def test_a_fifo_does_not_block(tree: Tree) -> None:
    os.mkfifo(tree.at(f"{MODELS}/blobs/{BLOB}-partial-0"))
    os.mkfifo(tree.at(f"{MODELS}/manifests/registry.ollama.ai/library/tiny/fifo"))
    assert look(tree).store.largest == 5


@pytest.mark.parametrize("target", ["/", "/srv/victim"])
def test_a_planted_tree_of_manifests_is_not_read(tree: Tree, target: str) -> None:
    tree.link(f"{MODELS}/manifests", target)
    host = look(tree)
    assert host.store.generation is None
    assert host.directories.problems[0].path == f"{MODELS}/manifests"


def test_a_manifest_that_links_to_a_secret_discloses_nothing(tree: Tree) -> None:
    secret = tree.file("/srv/victim/big", json.dumps({"layers": [{"size": 777}]}), 0o600, Identity(0, 0))
    tree.at(f"{MODELS}/manifests/registry.ollama.ai/library/tiny/x").symlink_to(secret)
    assert look(tree).store.largest == 5


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
    assert look(tree).store.largest == 5


def test_a_model_of_no_possible_size_is_refused_in_one_line(tree: Tree) -> None:
    tree.file(f"{MODELS}/{TAG}", json.dumps({"layers": [{"size": 10**400}]}))
    wanted = replace(WANTED, version="0.40.2", accept_store_migration=True, checksum="ab" * 32)
    assert refusal(wanted, replace(CONVERGED, store=look(tree).store)).code == "disk_full"


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


# A1: directories that are not for this purpose


@pytest.mark.parametrize("variable", ["models_dir", "install_dir"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/dev/shm/m",
        "/etc",
        "/etc/ollama",
        "/home",
        "/lib",
        "/lib64/x",
        "/opt",
        "/proc",
        "/proc/1",
        "/root",
        "/run",
        "/run/user/0",
        "/sbin",
        "/sys",
        "/tmp",
        "/tmp/models",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/usr/local/bin",
        "/usr/share",
        "/var",
        "/var/lib",
        "/var/log",
        "/var/tmp/x",
        "/var/run",
        "/var/lib/kaido-ollama",
        "/var/cache",
        "models",
        "./models",
        "",
        "~/models",
        "~root/m",
        "/a/../etc",
        "/my models",
        "/a\nb",
        "/a%h",
        "/a;b",
        "/ä",
        "/a'b",
    ],
)
def test_directories_of_the_system_and_malformed_paths(variable: str, path: str) -> None:
    error = refusal(replace(WANTED, **t.cast("dict[str, t.Any]", {variable: paths.normal(path)})), CONVERGED)
    assert error.code == "value_invalid"
    assert error.message.startswith(f"ollama_{variable}: invalid value ")
    assert "expected" in error.message


@pytest.mark.parametrize(
    "path",
    ["/data", "/srv", "/mnt", "/mnt/disk", "/var/cache/ollama", "/run/media/lab/disk", "/home/lab/models", "/m@1"],
)
def test_directories_that_may_be_for_models(path: str) -> None:
    assert "release" not in examine(replace(WANTED, models_dir=path), CONVERGED)


@pytest.mark.parametrize(
    ("models", "install"),
    [
        ("/data/x", "/data/x"),
        ("/data/x/models", "/data/x"),
        ("/data", "/data/x"),
        (MODELS, HOME),
        (MODELS, "/usr/share"),
        (MODELS, HOME + "/.ollama/bin"),
    ],
)
def test_directories_in_each_other(models: str, install: str) -> None:
    assert refusal(replace(WANTED, models_dir=models, install_dir=install)).code == "value_invalid"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/data/models/", "/data/models"),
        ("/data//models///", "/data/models"),
        ("/data/./models/.", "/data/models"),
        ("/", "/"),
        ("", ""),
        ("~/x/", "~/x"),
    ],
)
def test_one_form_of_a_path(path: str, form: str) -> None:
    assert paths.normal(path) == form


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


def test_problems_of_directories_are_failures() -> None:
    problem = ownership.Problem("store_unsafe", "/x is a symbolic link", "/x")
    error = refusal(WANTED, replace(CONVERGED, directories=survey.Survey(problems=(problem,))))
    assert (error.code, error.message) == ("store_unsafe", "/x is a symbolic link")


# The account

OURS = CONVERGED.account
assert OURS is not None


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (replace(OURS, shell="/bin/bash", home="/home/lab", uid=1000), ["login account", "/bin/bash", "/home/lab"]),
        (replace(OURS, shell="/bin/bash"), ["login account"]),
        (replace(OURS, shell=""), ["login account", "/bin/sh"]),
        (replace(OURS, uid=0), ["login account"]),
        (replace(OURS, uid=33, home="/var/www"), ["an account of the operating system (uid 33)"]),
        (replace(OURS, group="users"), ["primary group is users", "ollama_group: users"]),
        (replace(OURS, processes=("nginx (pid 7)",), home="/var/www"), ["nginx (pid 7)"]),
        (replace(OURS, local=False, groups=frozenset()), ["gpasswd -a ollama render", "directory service"]),
    ],
)
def test_a_foreign_account_is_refused(account: AccountFacts, words: list[str]) -> None:
    error = refusal(WANTED, replace(CONVERGED, account=account))
    assert error.code == "account_unsuitable"
    assert error.message.startswith("ollama_user: invalid value 'ollama'; ")
    for word in words:
        assert word in error.message


@pytest.mark.parametrize(
    "account",
    [
        replace(OURS, home="/var/lib/llm"),
        replace(OURS, uid=30001, local=False),
        replace(OURS, shell="/bin/false"),
    ],
)
def test_an_account_that_is_suitable_is_used_as_it_is(account: AccountFacts) -> None:
    assert examine(WANTED, replace(CONVERGED, account=account)) == {}


@pytest.mark.parametrize(
    ("variable", "name"),
    [("user", name) for name in ("root", "nobody", "", "a b", "-x", "0", "1000", "a:b", "x" * 33, "a\nb", "a/b", "ü")]
    + [("group", name) for name in ("root", "wheel", "sudo", "docker", "shadow", "", "a b", "1000")],
)
def test_names_of_accounts(variable: str, name: str) -> None:
    error = refusal(replace(WANTED, **t.cast("dict[str, t.Any]", {variable: name})))
    assert (error.code, error.message.startswith(f"ollama_{variable}: invalid value")) == ("value_invalid", True)


@pytest.mark.parametrize(("key", "variable"), [("User", "ollama_user"), ("Group", "ollama_group")])
def test_another_account_on_a_host_with_a_server(key: str, variable: str) -> None:
    unit = UNIT + f"{key}=llm\n"
    error = refusal(replace(WANTED, unit=unit), replace(CONVERGED, unit=unit))
    assert error.code == "account_changed"
    assert f"{variable}: llm" in error.message
    assert "kaido.ollama.uninstall" in error.message


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("[Service]\nUser=root\nGroup=root\n", True),
        ("[Service]\n  User = root  \n", True),
        ("[Service]\nGroup=video\n", True),
        ("[Service]\nDynamicUser=yes\n", True),
        ("[Service]\nUser=root\nUser=ollama\n", False),
        ("[Service]\n#User=root\nUser=\n", False),
        ("[Service]\nDynamicUser=no\nUser=ollama\n", False),
    ],
)
@pytest.mark.parametrize("host", [CONVERGED, FOREIGN, BARE])
def test_a_drop_in_that_sets_another_account(text: str, refused: bool, host: HostFacts) -> None:
    there = replace(host, drop_ins={"override.conf": text})
    if not refused:
        examine(WANTED, there)
        return
    error = refusal(WANTED, there)
    assert error.code == "drop_in_conflict"
    assert "/etc/systemd/system/ollama.service.d/override.conf" in error.message


def test_drop_ins_in_other_places_are_read(tree: Tree) -> None:
    tree.directory("/run/systemd/system/ollama.service.d", owner=Identity(0, 0))
    path = "/run/systemd/system/ollama.service.d/x.conf"
    tree.file(path, "[Service]\nUser=root\n")
    host = host_facts.gather(WANTED, 11434, str(tree.root), show(DropInPaths=path))
    assert host.drop_ins == {path: "[Service]\nUser=root\n"}


@pytest.mark.parametrize("planted", ["fifo", "secret", "endless"])
def test_an_environment_file_of_another_account_is_read_with_its_rights(tree: Tree, planted: str) -> None:
    """An administrator's drop-in may name a file in the home of the account, which then puts something else there."""
    path = f"{HOME}/server.conf"
    tree.file("/srv/victim/env", "SECRET=xyzzy\n", mode=0o600, owner=Identity(0, 0))
    if planted == "fifo":
        os.mkfifo(tree.at(path))
    else:
        tree.link(path, str(tree.at("/srv/victim/env")) if planted == "secret" else "/dev/zero")
    properties = show(EnvironmentFiles=f"{path} (ignore_errors=no)")
    assert host_facts.gather(WANTED, 11434, str(tree.root), properties).service.environment == {}
    tree.at(path).unlink()
    tree.file(path, "OLLAMA_DEBUG=1\n")
    assert host_facts.gather(WANTED, 11434, str(tree.root), properties).service.environment == {"OLLAMA_DEBUG": "1"}


@pytest.mark.parametrize(
    ("cgroup", "ours"),
    [
        ("0::/system.slice/ollama.service", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service", False),
        ("0::/system.slice/docker-ab.scope/system.slice/ollama.service", False),
    ],
)
def test_a_listener_in_a_unit_of_a_user_is_not_the_server(tree: Tree, cgroup: str, ours: bool) -> None:
    """A local user may start any program as a unit of that name, on the port of the server."""
    tree.directory("/proc/net")
    line = "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 555 1\n"
    tree.file("/proc/net/tcp", "header\n" + line)
    tree.directory("/proc/42/fd")
    tree.at("/proc/42/fd/7").symlink_to("socket:[555]")
    tree.file("/proc/42/comm", "ollama\n")
    tree.file("/proc/42/cgroup", cgroup + "\n")
    [listener] = look(tree).listeners
    assert listener.unit is ours


def test_the_account_as_the_host_has_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("www", "x", SERVICE.uid, 0, "", "/var/www", "/usr/sbin/nologin"))
    monkeypatch.setattr(host_facts, "find_user", lambda _name: entry)
    monkeypatch.setattr("os.getgrouplist", lambda _name, gid: [gid])
    for pid, unit in (("7", "nginx.service"), ("8", "ollama.service")):
        tree.directory(f"/proc/{pid}")
        tree.file(f"/proc/{pid}/comm", "nginx\n")
        tree.file(f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
    account = look(tree).account
    assert account is not None
    assert (account.local, account.processes, account.home) == (False, ("nginx (pid 7)",), "/var/www")
    tree.directory("/etc", owner=Identity(0, 0))
    tree.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:64101:0::/var/www:/usr/sbin/nologin\n")
    account = look(tree).account
    assert account is not None
    assert account.local


# Storage


@pytest.mark.parametrize("value", ["maybe", "none", "data", "/other", 7, ["/data"]])
def test_what_is_neither_true_nor_a_mount_point(run_module: RunModule, value: t.Any) -> None:
    result = run_module(preflight, arguments(models_mount_required=value))
    assert result["failure"]["code"] == "value_invalid"
    assert result["msg"].startswith("ollama_models_mount_required: invalid value")


def test_a_mount_point_that_is_missing_below_another_one() -> None:
    # /dev/shm is a file system of its own in every container; a directory in it is none.
    there = Path("/dev/shm/kaido-test")
    there.mkdir(exist_ok=True)
    try:
        assert not is_mount_point(str(there))
        assert is_mount_point("/dev/shm")
        assert is_mount_point("/proc")
        assert not is_mount_point("/dev/shm/missing")
    finally:
        there.rmdir()


def test_a_mount_point_above_the_models_can_be_named() -> None:
    wanted = replace(WANTED, models_dir="/data/a/models", models_mount_required="/data")
    assert "/data is not a mount point" in refusal(wanted, replace(CONVERGED, store=StoreFacts(mounted=False))).message


@pytest.mark.parametrize("models", [MODELS, "/srv/models"])
def test_a_store_under_a_path_that_units_cannot_contain(models: str) -> None:
    service = ServerFacts(environment={"OLLAMA_MODELS": "/mnt/Big Disk/models"})
    error = refusal(replace(WANTED, models_dir=models), replace(FOREIGN, service=service))
    assert error.code == "store_foreign"
    for word in (
        "/mnt/Big Disk/models",
        "mount --bind '/mnt/Big Disk/models'",
        "ollama_models_dir: /srv/ollama-models",
    ):
        assert word in error.message


# Versions


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        ("0.34.1", False),
        ("0.34.2", True),
        ("0.34.3", True),
        ("0.34.4", True),
        ("0.35.0", False),
        (None, False),
        ("x", False),
    ],
)
def test_a_server_with_the_vulnerability_is_named(version: str | None, warned: bool) -> None:
    assert ("CVE-2026-103663" in (host_request.vulnerability(version) or "")) == warned


def test_preflight_warns_of_an_unusable_gpu(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "gather", lambda *_: FOREIGN)
    result = run_module(preflight, arguments(models_dir=MODELS + "/"))
    assert any("CVE-2026-103663" in warning for warning in result["warnings"])
    assert (result["account_exists"], result["former_user"], result["unit"]) == (True, "", UNIT)
    assert result["environment"]["OLLAMA_MODELS"] == MODELS


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


# The role's own expressions


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("ollama.service: Main process exited, code=exited, status=226/NAMESPACE", True),
        ("ollama.service: Failed to set up mount namespacing: /run/systemd/unit-root: Permission denied", True),
        ("ollama.service: Main process exited, code=exited, status=1/FAILURE", False),
    ],
)
def test_a_sandbox_that_the_host_does_not_allow_is_named(line: str, named: bool) -> None:
    failure = rendered(
        "ollama__failure",
        ollama__goes_back=False,
        ollama__moves_back=False,
        ollama__cause={"msg": "does not answer"},
        ollama__journal={"stdout_lines": [line]},
    )
    assert any("ollama_sandbox: false" in text for text in failure) == named
    assert line in failure


def test_a_rollback_that_failed_is_not_reported_as_done() -> None:
    known: dict[str, t.Any] = {
        "ollama__goes_back": True,
        "ollama__moves_back": True,
        "ollama__cause": {"msg": "does not answer"},
        "ollama__preflight": {"release": {"before": "0.35.0"}, "move": {"source": "/srv/old"}},
        "ollama__journal": {},
    }
    done = rendered("ollama__failure", **known)
    assert [text.split(".")[0] for text in done] == [
        "does not answer",
        "The server uses /srv/old again",
        "Rolled back to 0",
    ]
    failed = rendered("ollama__failure", **known, ollama__rollback_failure="no space")
    assert failed == ["does not answer", "The rollback failed: no space. The journal of the attempt:"]


@pytest.mark.parametrize(
    ("moves", "code", "back"),
    [
        (True, "server_unreachable", True),
        (True, "version_mismatch", True),
        (True, "tag_missing", False),
        (False, "server_unreachable", False),
    ],
)
def test_a_new_place_from_which_the_server_does_not_start_is_left(moves: bool, code: str, back: bool) -> None:
    goes = rendered("ollama__moves_back", ollama__moves=moves, ollama__failure_code=code)
    assert goes is back
    failure = rendered(
        "ollama__failure",
        ollama__goes_back=False,
        ollama__moves_back=goes,
        ollama__preflight={"move": {"source": "/srv/models"}},
        ollama__cause={"msg": "does not answer"},
        ollama__journal={"stdout_lines": []},
    )
    assert any("The server uses /srv/models again" in text for text in failure) == back


def test_the_previous_store_serves_again_before_the_previous_release() -> None:
    tasks = yaml.safe_load((ROOT / "roles/ollama/tasks/failure.yml").read_text())
    block = next(task["block"] for task in tasks if "block" in task)
    rolled_back = {task["ansible.builtin.include_tasks"]: task["when"] for task in block}
    assert rolled_back == {"move_rollback.yml": "ollama__moves_back", "rollback.yml": "ollama__goes_back"}
    steps = yaml.safe_load((ROOT / "roles/ollama/tasks/move_rollback.yml").read_text())
    restored = [item["path"] for item in steps[0]["loop"]]
    assert restored == ["/etc/systemd/system/ollama.service", "/etc/ollama/ollama.env"]
    assert steps[1]["ansible.builtin.systemd_service"]["state"] == "restarted"


@pytest.mark.parametrize(
    ("path", "form"), [("/data/m/", "/data/m"), ("/data/m", "/data/m"), ("/", "/"), ("~/m", "~/m")]
)
def test_the_role_uses_one_form_of_a_path(path: str, form: str) -> None:
    assert rendered("ollama__models_dir", ollama_models_dir=path) == form
    assert rendered("ollama__install_dir", ollama_install_dir=path) == form


def rendered(name: str, **variables: t.Any) -> t.Any:
    """Return the value of a variable of role ollama."""
    role = yaml.safe_load((ROOT / "roles/ollama/vars/main.yml").read_text())
    known = {key: role[key] for key in (name, "ollama__untold", "ollama__no_sandbox")}
    # A Templar on its own knows no collection.
    plain = {key: re.sub(r"\s*\| map\('kaido\.ollama\.printable'\)", "", value) for key, value in known.items()}
    # ansible-core before 2.19 trusts every text.
    trust = getattr(ansible_template, "trust_as_template", str)
    trusted = {key: trust(value) for key, value in plain.items()}
    return Templar(DataLoader(), variables={**trusted, **variables}).template(trusted[name])
