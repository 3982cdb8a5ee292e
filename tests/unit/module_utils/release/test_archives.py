# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives without zstd, invalid archives and errors of the file system: each failure has a code and one line."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._release import unpack as unpack_module

from tests.unit.modules.release.conftest import host, site
from tests.unit.modules.release.site import (
    ARCHIVES,
    PADDING,
    Host,
    archive,
    is_right,
    link,
    serve,
    tar,
    zstd,
)

__all__ = ["host", "site"]

VERSION = "0.35.1"


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
def test_errors_of_the_file_system_have_codes(
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
