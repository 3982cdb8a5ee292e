# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases against a local user: with two real user IDs, so these tests need root."""

from __future__ import annotations

import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity, acting_as
from ansible_collections.kaido.ollama.plugins.module_utils._release import directories as directories_module
from ansible_collections.kaido.ollama.plugins.module_utils._release import install as install_module
from ansible_collections.kaido.ollama.plugins.module_utils._release import unpack as unpack_module

from tests.unit.modules.release.conftest import host, site
from tests.unit.modules.release.site import (
    ARCHIVES,
    BASE,
    Host,
    archive,
    is_right,
    link,
    tar,
    vendor,
)

__all__ = ["host", "site"]

ATTACKER = Identity(64102, 64102)
VERSION = "0.35.1"
# A program that reports the right version, and would run as root.
EVIL = archive(VERSION, **{"lib/ollama/evil": b"evil"})


@pytest.fixture(name="there")
def _there(host: Host) -> Path:
    """A directory of the attacker's with an archive of the wanted release."""
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (host.root, *host.root.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    path = host.root / "var-tmp" / "releases" / f"v{VERSION}"
    path.mkdir(parents=True)
    (path / BASE).write_bytes(ARCHIVES[VERSION])
    for item in (path, path / BASE, path.parent, path.parent.parent):
        os.chown(item, ATTACKER.uid, ATTACKER.gid)
    return path


@pytest.mark.parametrize(("uid", "mode"), [(ATTACKER.uid, 0o755), (0, 0o777)])
def test_a_program_that_others_can_change_is_run_and_kept_without_their_influence(
    host: Host, there: Path, uid: int, mode: int
) -> None:
    """An archive that was unpacked by hand may belong to any user ID, and so do its programs."""
    lib = vendor(host)
    program = host.bin / "ollama"
    (there.parent.parent / "ran").mkdir(mode=0o777)
    (there.parent.parent / "ran").chmod(0o777)
    text = program.read_text().replace("#!/bin/sh\n", f'#!/bin/sh\nid -u >"{there.parent.parent}/ran/$$"\n')
    for file in (program, lib / "llama-server"):
        file.write_text(text)
        file.chmod(mode)
        os.chown(file, uid, uid)
    assert not host.release(VERSION)["failed"]
    ran = {path.read_text().strip() for path in (there.parent.parent / "ran").iterdir()}
    assert ran == {str(uid or 65534)}
    for name in ("bin/ollama", "lib/ollama/llama-server"):
        kept = (host.opt / "releases/0.34.4" / name).stat()
        assert (kept.st_uid, kept.st_mode & 0o777, kept.st_nlink) == (0, 0o755, 1)


def test_an_adopted_directory_behind_a_link_of_its_owner_discloses_nothing(there: Path, tmp_path: Path) -> None:
    """As in a race: the directory of the libraries becomes a link to one of root while it is copied."""
    secret = tmp_path / "of-root" / "secret"
    secret.parent.mkdir(mode=0o700)
    secret.write_text("secret")
    secret.chmod(0o644)
    link_to = there / "libraries"
    link_to.symlink_to(secret.parent)
    os.chown(link_to, ATTACKER.uid, ATTACKER.gid, follow_symlinks=False)
    kept = tmp_path / "kept"
    with pytest.raises(PermissionError):
        directories_module.link_or_copy(str(link_to / "secret"), str(kept))
    assert not kept.exists()


def install(host: Host, there: Path, **params: Any) -> dict[str, Any]:
    return host.release(VERSION, base_url=f"file://{there.parent}", **params)


@pytest.mark.parametrize("how", ["rename", "overwrite"])
def test_an_archive_that_is_swapped_after_it_was_hashed(
    host: Host, there: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: exactly between hashing and unpacking, as often as either happens."""
    unpack, swaps = unpack_module.unpack, []

    def swap() -> None:
        with acting_as(ATTACKER):
            (there / "evil").write_bytes(EVIL)
            if how == "rename":
                (there / "evil").rename(there / BASE)
            else:
                (there / BASE).write_bytes(EVIL)
        swaps.append(how)

    def then(*arguments: Any) -> None:
        swap()
        unpack(*arguments)

    monkeypatch.setattr(install_module, "unpack", then)
    result = install(host, there)
    assert swaps
    assert not result["failed"], result
    assert is_right(host)


def test_an_archive_that_is_swapped_all_the_time(host: Host, there: Path) -> None:
    """Whatever is read, nothing but the wanted release is installed, and a failure has a code."""
    end = threading.Event()

    def swap() -> None:
        with acting_as(ATTACKER):
            while not end.is_set():
                for content in (EVIL, ARCHIVES[VERSION]):
                    (there / "next").write_bytes(content)
                    (there / "next").rename(there / BASE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        results = [install(host, there) for _time in range(12)]
    finally:
        end.set()
        swapper.join()
    assert all(not row["failed"] or row["failure"]["code"] == "checksum_mismatch" for row in results)
    assert any(not row["failed"] for row in results) == (host.opt / "current").exists()
    if (host.opt / "current").exists():
        assert is_right(host)
    assert list((host.opt / "download").iterdir()) == []


@pytest.mark.parametrize("planted", ["link", "fifo", "directory", "another file", "nothing"])
def test_what_is_planted_in_the_place_of_an_archive(host: Host, there: Path, planted: str) -> None:
    with acting_as(ATTACKER):
        (there / BASE).unlink()
        if planted == "link":
            (there / BASE).symlink_to("/etc/shadow")
        elif planted == "fifo":
            os.mkfifo(there / BASE)
        elif planted == "directory":
            (there / BASE).mkdir()
        elif planted == "another file":
            (there / BASE).write_bytes(EVIL)
    result = install(host, there)
    assert result["failure"]["code"] == ("checksum_mismatch" if planted == "another file" else "release_missing")
    assert "\n" not in result["msg"]
    assert list((host.opt / "releases").iterdir()) == []


@pytest.mark.parametrize("planted", ["install_dir", "releases", "download", "parent", "writable"])
def test_a_place_that_others_can_change_is_refused(host: Host, there: Path, planted: str) -> None:
    opt = host.opt
    (opt / "releases").mkdir(parents=True)
    (opt / "download").mkdir()
    if planted == "writable":
        opt.chmod(0o777)
    else:
        path = {"install_dir": opt, "parent": opt.parent}.get(planted, opt / planted)
        os.chown(path, ATTACKER.uid, ATTACKER.gid)
    result = install(host, there)
    assert result["failure"]["code"] == "install_dir_unsafe"
    assert f"install_dir: invalid value {opt}" in result["msg"]
    assert list((opt / "releases").iterdir()) == list((opt / "download").iterdir()) == []


def test_a_release_is_read_from_a_tar(host: Host, there: Path) -> None:
    """As playbook import does: nothing is unpacked beside, and the tar is opened once."""
    bundle = host.root / "llm.tar"
    bundle.write_bytes(tar({f"releases/v{VERSION}/{BASE}": ARCHIVES[VERSION]}))
    result = host.release(VERSION, base_url=f"file://{bundle}/releases")
    assert not result["failed"], result
    assert is_right(host)
    assert list((host.opt / "download").iterdir()) == []


@pytest.mark.parametrize(
    ("member", "code"),
    [
        (EVIL, "checksum_mismatch"),
        (None, "release_missing"),
        (link("", "/etc/shadow"), "release_missing"),
        (link("", "", tarfile.FIFOTYPE), "release_missing"),
    ],
)
def test_a_tar_without_the_release(host: Host, there: Path, member: Any, code: str) -> None:
    bundle = host.root / "llm.tar"
    name = f"releases/v{VERSION}/{BASE}"
    if isinstance(member, tarfile.TarInfo):
        member.name = name
    bundle.write_bytes(tar({name: member} if member is not None else {"x": b"x"}))
    assert host.release(VERSION, base_url=f"file://{bundle}/releases")["failure"]["code"] == code
    bundle.write_bytes(b"no tar")
    assert host.release(VERSION, base_url=f"file://{bundle}/releases")["failure"]["code"] == "release_missing"
