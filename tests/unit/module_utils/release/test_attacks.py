# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases against a local user: with two real user IDs, so these tests need root. And archives of every bad kind."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity, acting_as
from ansible_collections.kaido.ollama.plugins.module_utils._release import directories as directories_module
from ansible_collections.kaido.ollama.plugins.module_utils._release import install as install_module
from ansible_collections.kaido.ollama.plugins.module_utils._release import unpack as unpack_module

from tests.unit.modules.release.conftest import host, site
from tests.unit.modules.release.site import (
    ARCHIVES,
    BASE,
    PADDING,
    Host,
    archive,
    link,
    serve,
    tar,
    vendor,
    zstd,
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


def is_right(host: Host) -> bool:
    lib = host.opt / "current/lib/ollama"
    return not (lib / "evil").exists() and (lib / "padding").read_bytes() == PADDING


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


# Without the program zstd


@pytest.fixture(name="without_program")
def _without_program(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, **_options: None if name == "zstd" else which(name))


@pytest.mark.usefixtures("without_program")
def test_a_host_without_zstd_unpacks_with_the_library(host: Host) -> None:
    assert unpack_module.has_zstd()
    assert not host.release(VERSION)["failed"]
    assert is_right(host)


def test_zstd_outside_of_the_path_of_the_task_is_found(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preflight and the installation search the same directories, regardless of the PATH of the task."""
    monkeypatch.setattr(unpack_module, "_load_library", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert unpack_module.has_zstd()
    assert not host.release(VERSION)["failed"]
    assert is_right(host)


@pytest.mark.usefixtures("without_program")
def test_a_host_with_neither_is_reported(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_module, "_load_library", lambda: None)
    assert not unpack_module.has_zstd()
    assert host.release(VERSION)["failure"]["code"] == "program_missing"
    assert len(list((host.opt / "download").iterdir())) == 1, "what was downloaded is kept for the next run"


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.usefixtures("without_program")
@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        b"",
        ARCHIVES[VERSION][:-1000],
        ARCHIVES[VERSION][:4],
        ARCHIVES[VERSION] + b"trailing",
        changed(ARCHIVES[VERSION], 9),
        zstd(b"no tar" * 1000),
    ],
)
def test_an_invalid_archive_without_zstd(host: Host, data: bytes) -> None:
    result = host.release(VERSION, **serve(host, data))
    assert result["failure"]["code"] == "archive_invalid"
    assert "\n" not in result["msg"]
    assert list((host.opt / "releases").iterdir()) == []


@pytest.mark.usefixtures("without_program")
def test_frames_one_after_the_other_and_output_that_fills_the_buffer(tmp_path: Path) -> None:
    content = tar({"zero": bytes(5 << 20), "padding": PADDING})
    half = len(content) // 2
    data = zstd(content[:half]) + zstd(content[half:])
    with open(tmp_path / "x", "wb+", buffering=0) as file:
        file.write(data)
        unpack_module.unpack([("x", file)], str(tmp_path / "root"))
    assert (tmp_path / "root" / "zero").read_bytes() == bytes(5 << 20)
    assert (tmp_path / "root" / "padding").read_bytes() == PADDING


# Names and disks


@pytest.mark.parametrize(
    "members",
    [
        {"lib/" + "x" * 300: b"x"},
        {"lib/" + "x/" * 3000 + "x": b"x"},
        {"x" * 300 + "/y": b"x"},
        {"lib/link": link("lib/link", "y" * 5000)},
        {"lib/file": b"x", "lib/file/below": b"x"},
        {"lib/file\0null": b"x"},
        {"lib/\udcff\n\x1b[31m" + "x" * 300: b"x"},
        {"bin": b"x"},
        {"": b"x"},
        {".": b"x"},
    ],
    ids=["name", "path", "directory", "target", "below a file", "null", "escape", "over a directory", "empty", "dot"],
)
def test_names_that_are_not_possible(host: Host, members: dict[str, Any]) -> None:
    result = host.release(VERSION, **serve(host, archive(VERSION, **members)))
    if result["failed"]:
        assert result["failure"]["code"] == "archive_invalid", result
        assert result["msg"].isprintable()
        assert list((host.opt / "releases").iterdir()) == []
    else:
        assert is_right(host)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "install_dir_unwritable"),
        (errno.EIO, "install_dir_unwritable"),
        (errno.EACCES, "install_dir_unwritable"),
    ],
)
@pytest.mark.parametrize("call", ["open", "mkdir", "rename", "replace", "symlink", "fsync"])
def test_a_file_system_without_extended_attributes(
    host: Host, error: int, code: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.release("0.34.4")
    real = getattr(os, call)

    def fail(*arguments: Any, **options: Any) -> Any:
        is_ours = call == "fsync" or str(host.root) in str(arguments[0]) or str(host.root) in str(arguments[-1])
        reads = call == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR)
        if is_ours and not reads:
            raise OSError(error, os.strerror(error), str(arguments[0]))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        result = host.release(VERSION)
    assert result["failed"], result
    assert result["failure"]["code"] == code
    assert "\n" not in result["msg"]
    assert host.version() == "0.34.4"
    assert not host.release(VERSION)["failed"]


def mutated(seed: int) -> Iterator[bytes]:
    """Tars with other bytes in their headers, which is where the structure is."""
    dice = random.Random(seed)
    special: dict[str, bytes | tarfile.TarInfo] = {
        "a": b"x" * 700,
        "dev": link("dev", "", tarfile.CHRTYPE),
        "l": link("l", "x"),
        "deep/er/file": b"y",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo("lib/" + "ü" * 120)
        entry.size, entry.pax_headers = 3, {"comment": "x" * 50}
        file.addfile(entry, io.BytesIO(b"abc"))
    base = tar(special)[:-1024] + buffer.getvalue()
    for _number in range(1500):
        data = bytearray(base)
        for _time in range(dice.choice([1, 2, 4])):
            start = 512 * dice.randrange(len(data) // 512) + dice.choice([0, 100, 124, 136, 148, 156, 157, 257])
            data[start] = dice.choice([0, 0x20, 0x2F, 0x30, 0x37, 0x78, 0x80, 0xFF, dice.randrange(256)])
            block = start - start % 512
            head = data[block : block + 148] + b" " * 8 + data[block + 156 : block + 512]
            data[block + 148 : block + 156] = b"%06o\0 " % sum(head)
        yield bytes(data)


def test_mutated_archives_end_in_one_coded_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    outcomes = set()
    for number, data in enumerate(mutated(20261126)):
        root = tmp_path / str(number)
        with open(tmp_path / "x", "wb+", buffering=0) as file:
            file.write(data)
            try:
                monkeypatch.setattr(unpack_module, "_decompress", lambda _name, file: _Plain(file))
                unpack_module.unpack([("x", file)], str(root))
                outcomes.add("unpacked")
            except OllamaError as exc:
                outcomes.add(exc.code if exc.message.isprintable() else exc.message)
        shutil.rmtree(root, ignore_errors=True)
        assert sorted(os.listdir(tmp_path)) == ["x"]
    assert outcomes == {"unpacked", "archive_invalid"}


class _Plain:
    """An archive that is not compressed."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> Any:
        return self.file

    def __exit__(self, *_exc: object) -> None:
        pass
