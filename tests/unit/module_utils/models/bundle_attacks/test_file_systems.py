# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems without extended attributes, owners or modes."""

from __future__ import annotations

import errno
import os
import typing as t
from pathlib import Path

import pytest

from tests.unit.module_utils.models.bundle_attacks.host import SERVICE, Host, give, refused


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (errno.ENOSPC, ("disk_full",)),
        (errno.EROFS, ("dest_unwritable", "store_unwritable")),
        (errno.EIO, ("dest_unwritable", "store_unwritable")),
    ],
)
@pytest.mark.parametrize("call", ["mkdir", "rename", "open"])
@pytest.mark.parametrize("tool", ["export", "import"])
def test_a_file_system_without_extended_attributes(
    host: Host, tool: str, call: str, error: int, codes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.export_to("bundle.tar")
    real = getattr(os, call)

    def fail(path: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
        reads = call == "open" and not arguments[0] & os.O_CREAT
        if not reads and {"dir_fd", "src_dir_fd"} & options.keys() and options.get("dir_fd", 0) is not None:
            raise OSError(error, os.strerror(error), path)
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        result = host.export_to("out/other.tar") if tool == "export" else host.import_from("bundle.tar")
    refused(result, *codes)
    assert os.listdir(host.out) == []
    assert host.digests() == {}


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_a_file_system_without_owners_and_modes(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example a USB drive: all files belong to the user of the mount."""
    real = os.mkdir

    def mkdir(path: t.Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if dir_fd is not None:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
            os.fchown(handle, SERVICE.uid, SERVICE.gid)
            os.fchmod(handle, 0o755)
            os.close(handle)

    monkeypatch.setattr(os, "mkdir", mkdir)
    give(host.out)
    assert host.export_to(dest)["changed"]
    assert os.listdir(host.out) == [Path(dest).name]
