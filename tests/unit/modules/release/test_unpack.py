# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are invalid, and what of an archive is unpacked."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._release import directories, install

from tests.unit.modules.release.site import (
    ARCHIVES,
    BASE,
    PADDING,
    Host,
    archive,
    link,
    program,
    refuse,
    serve,
    tar,
    zstd,
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (zstd(tar({"bin/ollama": program("0.35.1")})), "release_incomplete"),
        (zstd(tar({"lib/ollama/llama-server": b"x"})), "release_incomplete"),
        (archive("0.35.1", **{"bin/ollama": b"#!/bin/sh\nexit 1\n"}), "release_incomplete"),
        (archive("0.35.1", **{"bin/ollama": b"\x7fELF nonsense"}), "release_incomplete"),
        (archive("0.35.0"), "version_mismatch"),
        (b"no archive", "archive_invalid"),
        (archive("0.35.1")[:-1000], "archive_invalid"),
        (zstd(b"no tar" * 1000), "archive_invalid"),
        (archive("0.35.1", **{"/etc/x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"../x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"lib/../../x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "../../x")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "/etc/passwd")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "."), "lib/x/y": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"a": link("a", "."), "b": link("b", "a/../..")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "/etc/passwd", tarfile.LNKTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "lib/none", tarfile.LNKTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"dev": link("dev", "", tarfile.CHRTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"pipe": link("pipe", "", tarfile.FIFOTYPE)}), "archive_invalid"),
    ],
)
def test_an_invalid_archive_with_the_correct_checksum(host: Host, data: bytes, code: str) -> None:
    refuse(host, code, **serve(host, data))
    assert list((host.opt / "download").iterdir()) == []


def test_links_inside_are_fine_and_modes_are_plain(host: Host) -> None:
    odd = tarfile.TarInfo("lib/ollama/odd")
    odd.mode, odd.uid = 0o6755, 1234
    members: dict[str, bytes | tarfile.TarInfo] = {
        "lib/ollama/libx.so": link("lib/ollama/libx.so", "padding"),
        "lib/ollama/hard": link("lib/ollama/hard", "lib/ollama/padding", tarfile.LNKTYPE),
        "lib/ollama/odd": odd,
    }
    before = os.umask(0o077)
    try:
        result = host.release("0.35.1", **serve(host, archive("0.35.1", **members)))
    finally:
        os.umask(before)
    assert not result["failed"]
    lib = host.opt / "current" / "lib" / "ollama"
    assert (lib / "libx.so").read_bytes() == (lib / "hard").read_bytes() == PADDING
    assert (lib / "odd").stat().st_mode & 0o7777 == 0o755
    assert (lib / "odd").stat().st_uid == os.getuid()
    assert {path.stat().st_mode & 0o777 for path in (host.opt, host.opt / "releases", lib)} == {0o755}


@pytest.mark.parametrize(
    ("version", "missing"), [("0.33.3", "lib/ollama/llama-quantize"), ("0.34.0", None), ("0.24.0", None)]
)
def test_completeness_depends_on_the_version(tmp_path: Path, version: str, missing: str | None) -> None:
    for name, content in {"bin/ollama": program(version), "lib/ollama/llama-server": b"x"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    if version == "0.24.0":
        (tmp_path / "lib/ollama/llama-server").unlink()
    if missing is None:
        install.check_complete(str(tmp_path), version)
        return
    with pytest.raises(OllamaError) as caught:
        install.check_complete(str(tmp_path), version)
    assert caught.value.details["missing"] == missing


def test_an_archive_on_the_host_is_used_in_place(host: Host) -> None:
    there = host.root / "mnt" / "v0.35.1" / BASE
    there.parent.mkdir(parents=True)
    there.write_bytes(ARCHIVES["0.35.1"])
    result = host.release("0.35.1", base_url=f"file://{host.root}/mnt")
    assert (result["failed"], result["bytes_downloaded"], host.version()) == (False, 0, "0.35.1")
    assert there.read_bytes() == ARCHIVES["0.35.1"]
    assert host.site.ranges == []


@pytest.mark.parametrize(("content", "code"), [(None, "release_missing"), (b"other", "checksum_mismatch")])
def test_an_invalid_archive_on_the_host(host: Host, content: bytes | None, code: str) -> None:
    there = host.root / "mnt" / "v0.35.1" / BASE
    there.parent.mkdir(parents=True)
    if content is not None:
        there.write_bytes(content)
    refuse(host, code, base_url=f"file://{host.root}/mnt")
    assert there.exists() == (content is not None)


# SELinux


def test_files_get_the_types_of_the_policy(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "restorecon").write_text(f'#!/bin/sh\necho "$@" >>{tools}/calls\n')
    (tools / "restorecon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    host.release("0.34.4")
    assert not (tools / "calls").exists()
    (tmp_path / "enforce").write_text("1")
    monkeypatch.setattr(directories, "SELINUX", str(tmp_path / "enforce"))
    host.release("0.35.1")
    assert (tools / "calls").read_text() == f"-RF {host.opt}/releases/0.35.1\n"
