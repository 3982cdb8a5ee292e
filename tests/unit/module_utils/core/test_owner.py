# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting as the owner of a directory: with two real user IDs, so these tests need root."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import owner
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import (
    Identity,
    acting_as,
    open_regular,
    owner_of,
    read_regular,
)

SERVICE = Identity(64101, 64101)


@pytest.fixture(name="tree")
def _tree(public_path: Path) -> Path:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    (public_path / "srv").mkdir(mode=0o755)
    return public_path


def test_a_link_reaches_only_what_its_owner_can_access(tree: Path) -> None:
    secret = tree / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    (tree / "link").symlink_to(secret)
    with acting_as(SERVICE):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (SERVICE.uid, SERVICE.gid, [])
        with pytest.raises(PermissionError):
            (tree / "link").read_text()
    assert os.geteuid() == 0
    assert secret.read_text() == "root's"


def test_other_threads_keep_their_identity(tree: Path) -> None:
    seen: list[int] = []
    with acting_as(SERVICE):
        inherits = threading.Thread(target=lambda: seen.append(os.geteuid()))
        inherits.start()
        inherits.join()
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with acting_as(SERVICE):
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    seen.append(os.geteuid())
    go_on.set()
    thread.join()
    assert seen == [SERVICE.uid, 0]


def test_the_identity_is_restored_after_an_error() -> None:
    groups = os.getgroups()
    with pytest.raises(ZeroDivisionError), acting_as(SERVICE):
        raise ZeroDivisionError
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_the_identity_is_restored_where_it_cannot_be_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = os.getgroups()
    real = owner._syscall

    def syscall(number: int, *arguments: object) -> None:
        if SERVICE.uid in arguments and number == owner._SYSCALLS[platform.machine()][0]:
            raise OllamaError("privileges_not_dropped", "denied")
        real(number, *arguments)

    monkeypatch.setattr(owner, "_syscall", syscall)
    with pytest.raises(OllamaError, match="denied"), acting_as(SERVICE):
        pytest.fail("root's rights were kept")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


@pytest.mark.parametrize("planted", ["directory", "child", "parent", "link", "linked child"])
def test_the_account_that_controls_a_directory_is_its_owner(tree: Path, planted: str) -> None:
    store = tree / "srv" / "home" / "models"
    (store / "blobs").mkdir(parents=True)
    path = store
    if planted == "link":
        path = tree / "srv" / "models"
        path.symlink_to(store)
        os.lchown(path, *vars(SERVICE).values())
    elif planted == "linked child":
        (store / "blobs").rmdir()
        (tree / "disk").mkdir()
        os.chown(tree / "disk", *vars(SERVICE).values())
        (store / "blobs").symlink_to(tree / "disk")
    else:
        owned = {"directory": store, "child": store / "blobs", "parent": store.parent}[planted]
        os.chown(owned, SERVICE.uid, SERVICE.gid)
    assert owner_of(str(path), ["blobs"]) == SERVICE


def test_a_directory_of_root_alone_is_accessed_as_root(tree: Path) -> None:
    (tree / "srv" / "models").mkdir()
    assert owner_of("/srv/models", ["blobs"], root=str(tree)) == Identity(0, 0)


def test_a_directory_of_root_that_others_can_write_to_is_refused(tree: Path) -> None:
    (tree / "srv" / "models").mkdir()
    (tree / "srv" / "models").chmod(0o777)
    with pytest.raises(OllamaError, match=r"srv/models belongs to root, but other users can write to it \(mode 0777\)"):
        owner_of("/srv/models", root=str(tree))


def test_nothing_but_a_regular_file_is_opened(tree: Path) -> None:
    (tree / "file").write_text("text")
    (tree / "link").symlink_to(tree / "file")
    os.mkfifo(tree / "fifo")
    assert read_regular(str(tree / "file"), 4) == b"text"
    for name in ("link", "fifo", "srv", "missing"):
        with pytest.raises(OSError):  # noqa: PT011 - the kinds are listed in the docstring
            os.close(open_regular(str(tree / name)))
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_regular(str(tree / "file"), 3)
