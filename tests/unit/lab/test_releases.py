# SPDX-License-Identifier: GPL-3.0-or-later
"""Release archives: the layout of upstream, reproducible, repaired after damage."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lab import LabError, registry, releases

needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed; the lab installs it")
PROGRAM = b"#!/usr/bin/env python3\n"


def read(tar: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {member.name: member for member in opened}


def test_layout() -> None:
    entries = read(releases.tarball(releases.members("0.35.1", "amd64", PROGRAM)))
    assert {"bin", "lib/ollama", "lib/ollama/cuda_v12", "lib/ollama/cuda_v13", "lib/ollama/vulkan"} <= {
        name for name, entry in entries.items() if entry.isdir()
    }
    assert entries["bin/ollama"].size == len(PROGRAM)
    assert {entries[name].mode for name in ("bin/ollama", "lib/ollama/llama-server")} == {0o755}
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 0)}
    assert not [name for name in entries if name.startswith((".", "/"))]
    assert "lib/ollama/llama-quantize" not in entries


def test_what_differs_by_version_and_architecture() -> None:
    names = {name for name, _content, _mode in releases.members("0.33.3", "arm64", PROGRAM)}
    assert "lib/ollama/llama-quantize" in names
    assert not [name for name in names if "vulkan" in name]


@needs_zstd
def test_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.standin.build.archive", lambda version, plain=False: PROGRAM + version.encode())
    sums = releases.publish(tmp_path, "0.35.1")
    folder = tmp_path / "v0.35.1"
    text = (folder / "sha256sum.txt").read_text()
    assert re.fullmatch(r"([0-9a-f]{64}  \./ollama-linux-(amd64|arm64)\.tar\.zst\n){2}", text)
    # The format is what sha256sum itself understands.
    assert subprocess.run(["sha256sum", "--check", "--quiet", "sha256sum.txt"], cwd=folder, check=False).returncode == 0
    amd64 = folder / "ollama-linux-amd64.tar.zst"
    assert sums["amd64"] == hashlib.sha256(amd64.read_bytes()).hexdigest()
    tar = subprocess.run(["zstd", "-dqc", amd64], stdout=subprocess.PIPE, check=True).stdout
    assert read(tar)["bin/ollama"].size == len(PROGRAM) + len("0.35.1")

    untouched = (folder / "ollama-linux-arm64.tar.zst").stat().st_mtime_ns
    amd64.write_bytes(b"tampered with")
    assert releases.publish(tmp_path, "0.35.1") == sums
    assert hashlib.sha256(amd64.read_bytes()).hexdigest() == sums["amd64"]
    assert (folder / "ollama-linux-arm64.tar.zst").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("version", ["0.35", "latest", "0.35.1/..", "v0.35.1"])
def test_invalid_version(tmp_path: Path, version: str) -> None:
    with pytest.raises(LabError, match=re.escape(repr(version))):
        releases.publish(tmp_path, version)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.standin.build.archive", lambda version, plain=False: PROGRAM + b"plain" * plain)


@needs_zstd
@pytest.mark.usefixtures("small")
def test_a_given_release_replaces_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = releases.imitation("0.35.1", tmp_path / "given", padding=100_000)
    monkeypatch.setenv("LAB_RELEASES", str(tmp_path / "given"))
    sums = releases.publish(tmp_path / "root", "0.35.1")
    folder = tmp_path / "root" / "v0.35.1"
    assert sums == {releases.HERE: hashlib.sha256(archive.read_bytes()).hexdigest()}
    assert (folder / releases.archive_name(releases.HERE)).read_bytes() == archive.read_bytes()
    assert subprocess.run(["sha256sum", "--check", "--quiet", "sha256sum.txt"], cwd=folder, check=False).returncode == 0
    # Of a version that is not given, the lab builds one, for both architectures.
    assert set(releases.publish(tmp_path / "root", "0.34.4")) == set(releases.ARCHITECTURES)


@needs_zstd
@pytest.mark.usefixtures("small")
def test_an_imitation_has_what_a_real_release_has(tmp_path: Path) -> None:
    archive = releases.imitation("0.35.1", tmp_path, padding=100_000)
    tar = subprocess.run(["zstd", "-dqc", archive], stdout=subprocess.PIPE, check=True).stdout
    entries = read(tar)
    links = {name: entry.linkname for name, entry in entries.items() if entry.issym()}
    assert links == {"lib/ollama/libggml.so": "libggml.so.0", "lib/ollama/libggml.so.0": "libggml.so.0.9.4"}
    assert entries["bin/ollama"].size == len(PROGRAM + b"plain")
    assert releases.unpacked_size(archive) == sum(entry.size for entry in entries.values()) > 1_100_000
    assert archive.stat().st_size > 1_100_000, "libraries hardly compress"


def test_a_wrong_directory_of_releases_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_RELEASES", str(tmp_path / "nowhere"))
    with pytest.raises(LabError, match=r"LAB_RELEASES: invalid value '.*nowhere'; expected a directory"):
        releases.publish(tmp_path / "root", "0.35.1")


def test_the_depot_is_repaired(tmp_path: Path) -> None:
    registry.fill(tmp_path, {"kaido/m:v1": "1M"})
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    blobs = [path for path in files if path.name.startswith("sha256-")]
    assert any(path.stat().st_size == 2**20 for path in blobs)
    assert all(hashlib.sha256(files[path]).hexdigest() == path.name[7:] for path in blobs)
    for path in blobs:
        path.write_bytes(b"damaged")
    registry.fill(tmp_path, {"kaido/m:v1": "1M"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
