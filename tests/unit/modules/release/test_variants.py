# SPDX-License-Identifier: GPL-3.0-or-later
"""Variants that are unpacked over the base archive."""

from __future__ import annotations

import tarfile

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._release import release as release_module

from tests.unit.modules.release.site import (
    BASE,
    ROCM,
    Host,
    archive,
    checksum,
    link,
    overlay,
    serve,
)


def test_a_variant_is_unpacked_over_the_base(host: Host) -> None:
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip", "lib/ollama/padding": b"newer"})
    result = host.release("0.35.1", **params)
    assert not result["failed"], result
    lib = host.opt / "current" / "lib" / "ollama"
    assert (lib / "rocm_v7_2" / "libggml-hip.so").read_bytes() == b"hip"
    assert (lib / "padding").read_bytes() == b"newer"
    assert (lib / "llama-server").exists()
    assert list((host.opt / "download").iterdir()) == []
    assert not host.release("0.35.1", **params)["changed"]


def test_a_variant_that_is_added_downloads_only_itself(host: Host) -> None:
    host.release("0.35.1")
    inode = (host.opt / "current/lib/ollama/padding").stat().st_ino
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip", "lib/ollama/llama-server": b"other"})
    asked = len(host.site.ranges)
    result = host.release("0.35.1", **params)
    assert (result["failed"], len(host.site.ranges)) == (False, asked + 1)
    assert result["bytes_downloaded"] == len(host.site.files[f"/v0.35.1/{ROCM}"])
    assert (host.opt / "current/lib/ollama/padding").stat().st_ino == inode
    assert (host.opt / "current/lib/ollama/llama-server").read_bytes() == b"other"
    assert (host.opt / "current/lib/ollama/rocm_v7_2/libggml-hip.so").exists()


def test_a_removed_variant_is_uninstalled(host: Host) -> None:
    host.release("0.35.1", **overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip"}))
    assert host.release("0.35.1")["changed"]
    assert not (host.opt / "current/lib/ollama/rocm_v7_2").exists()


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"lib/ollama/x/y": b"", "lib/ollama/x": b""}, "archive_invalid"),
        ({"lib/ollama/out": link("lib/ollama/out", "../../../x")}, "archive_invalid"),
        ({"lib/ollama/libx.so/inside": b""}, "archive_invalid"),
    ],
)
def test_an_invalid_variant_leaves_the_release_without_it(
    host: Host, members: dict[str, bytes | tarfile.TarInfo], code: str
) -> None:
    base = archive("0.35.1", **{"lib/ollama/libx.so": link("lib/ollama/libx.so", "padding")})
    host.release("0.35.1", **serve(host, base))
    before = host.tree()
    params = overlay(host, members)
    result = host.release("0.35.1", **{**params, "checksums": {**params["checksums"], BASE: checksum(base)}})
    assert result["failure"]["code"] == code
    assert host.tree() == before


def test_each_archive_needs_its_checksum(host: Host) -> None:
    result = host.release("0.35.1", variants=["rocm"])
    assert result["failure"]["code"] == "checksum_unknown"
    assert ROCM in result["msg"]
    assert host.tree() == {}
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip"})
    host.site.files[f"/v0.35.1/{ROCM}"] = b"tampered"
    assert host.release("0.35.1", **params)["failure"]["code"] == "checksum_mismatch"
    assert not (host.bin / "ollama").exists()


def test_variants_belong_to_an_architecture() -> None:
    assert release_module.assets("aarch64", ["jetpack6"])[1] == "ollama-linux-arm64-jetpack6.tar.zst"
    with pytest.raises(OllamaError, match="invalid value 'rocm' for arm64; expected jetpack5, jetpack6"):
        release_module.assets("aarch64", ["rocm"])
