# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release archives laid out as upstream's, with the stand-in as their program: vX.Y.Z/ollama-linux-ARCH.tar.zst.

The bytes depend on the version and the stand-in alone, so that a checksum in an inventory stays right.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

from tests.standin import build as stand_in

from . import LabError

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-rc[0-9]+)?")
ARCHITECTURES = {"amd64": ("cuda_v12", "cuda_v13", "vulkan"), "arm64": ("cuda_v12", "cuda_v13")}
LLAMA_QUANTIZE_UNTIL = (0, 33)


def archive_name(arch: str) -> str:
    return f"ollama-linux-{arch}.tar.zst"


def members(version: str, arch: str, program: bytes) -> list[tuple[str, bytes, int]]:
    """Every file of the archive: name, content, mode."""

    def dummy(name: str) -> bytes:
        return f"stand-in for {name} of {version} on {arch}\n".encode()

    tools = ["llama-server"]
    if tuple(int(part) for part in version.split("-")[0].split("."))[:2] <= LLAMA_QUANTIZE_UNTIL:
        tools.append("llama-quantize")
    libraries = ["libggml-base.so", "libggml-cpu.so"]
    libraries += [f"{folder}/libggml-{folder.partition('_')[0]}.so" for folder in ARCHITECTURES[arch]]
    files = [("bin/ollama", program, 0o755)]
    files += [(f"lib/ollama/{name}", dummy(name), 0o755) for name in (*tools, *libraries)]
    return files


def tarball(files: list[tuple[str, bytes, int]]) -> bytes:
    """An uncompressed tar as upstream's CI makes it: no leading ./, owner 0:0; here also without a time."""
    folders = {str(parent) for name, _content, _mode in files for parent in Path(name).parents} - {"."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def compress(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", "-T1"], input=data, stdout=subprocess.PIPE, check=True).stdout


def sums(archives: dict[str, bytes]) -> str:
    """sha256sum.txt as upstream writes it: names with ./"""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  ./{name}\n" for name, data in sorted(archives.items()))


def publish(root: Path, version: str) -> dict[str, str]:
    """Write one release below root, mending what differs; return architecture -> sha256 of its archive."""
    if not VERSION.fullmatch(version):
        raise LabError(f"--version {version!r} is not allowed: give X.Y.Z or X.Y.Z-rcN")
    program = stand_in.archive(version)
    archives = {archive_name(arch): compress(tarball(members(version, arch, program))) for arch in ARCHITECTURES}
    folder = root / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**archives, "sha256sum.txt": sums(archives).encode()}.items():
        replace(folder / name, data)
    return {arch: hashlib.sha256(archives[archive_name(arch)]).hexdigest() for arch in ARCHITECTURES}


def replace(path: Path, data: bytes) -> None:
    """Atomically, and only when the bytes differ: a download in flight keeps what it opened."""
    if path.is_file() and path.read_bytes() == data:
        return
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.replace(new, path)
