# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release archives laid out as upstream's, with the stand-in as their program: vX.Y.Z/ollama-linux-ARCH.tar.zst.

The bytes depend on the version and the stand-in alone, so that a checksum in an inventory stays right. Where the
environment variable LAB_RELEASES names a directory, its X.Y.Z.tar.zst takes the place of the archive of that version
for this machine's architecture: a real release, or one that `python -m tests.lab imitation` makes.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.standin import build as stand_in

from . import LabError

VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-rc[0-9]+)?")
ARCHITECTURES = {"amd64": ("cuda_v12", "cuda_v13", "vulkan"), "arm64": ("cuda_v12", "cuda_v13")}
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
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


def tarball(files: list[tuple[str, bytes, int]], links: Sequence[tuple[str, str]] = ()) -> bytes:
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
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(entry)
    return buffer.getvalue()


def compress(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", "-T1"], input=data, stdout=subprocess.PIPE, check=True).stdout


def sum_file(sums: dict[str, str]) -> str:
    """sha256sum.txt as upstream writes it: names with ./"""
    return "".join(f"{sums[arch]}  ./{archive_name(arch)}\n" for arch in sorted(sums))


def given(version: str) -> Path | None:
    """The archive in LAB_RELEASES that stands for the version."""
    directory = os.environ.get("LAB_RELEASES", "")
    if not directory:
        return None
    if not Path(directory).is_dir():
        raise LabError(f"LAB_RELEASES: invalid value {directory!r}; expected a directory")
    path = Path(directory) / f"{version}.tar.zst"
    return path if path.is_file() else None


def publish(root: Path, version: str, stand_in_only: bool = False) -> dict[str, str]:
    """Write one release below root, repairing what differs; return architecture -> sha256 of its archive."""
    if not VERSION.fullmatch(version):
        raise LabError(f"--version {version!r} is not allowed: give X.Y.Z or X.Y.Z-rcN")
    program = stand_in.archive(version)
    folder = root / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    source = None if stand_in_only else given(version)
    if source:
        copy(source, folder / archive_name(HERE))
        sums = {HERE: sha256(source)}
    else:
        sums = {}
        for arch in ARCHITECTURES:
            data = compress(tarball(members(version, arch, program)))
            replace(folder / archive_name(arch), data)
            sums[arch] = hashlib.sha256(data).hexdigest()
    replace(folder / "sha256sum.txt", sum_file(sums).encode())
    return sums


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy(source: Path, target: Path) -> None:
    """As `replace`, for what is too large for memory."""
    if target.is_file() and sha256(target) == sha256(source):
        return
    new = target.with_name(target.name + ".new")
    shutil.copyfile(source, new)
    os.replace(new, target)


def unpacked_size(archive: Path) -> int:
    """Bytes of the files in an archive."""
    process = subprocess.Popen(["zstd", "-dqc", archive], stdout=subprocess.PIPE)
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as tar:
        return sum(member.size for member in tar)


def disk_size(archives: Iterable[Path]) -> int:
    """Bytes of a disk that holds a few of the releases, and one that is being unpacked beside its archive."""
    return (24 << 20) + 4 * max(path.stat().st_size + unpacked_size(path) for path in archives)


def imitation(version: str, directory: Path, padding: int = 48 << 20) -> Path:
    """Write an archive for LAB_RELEASES that looks like a real release, around a plain stand-in; return its path.

    It has what a real one has and the lab's own lack: larger libraries and symbolic links between them. Its program
    knows no STANDIN_ variable and gives other numbers.

    :param padding: bytes of a library that hardly compresses, as machine code does.
    """
    files = members(version, HERE, stand_in.archive(version, plain=True))
    for name, size in (("libggml-cpu-haswell.so", padding), ("libggml.so.0.9.4", 1 << 20)):
        files.append((f"lib/ollama/{name}", random.Random(name).randbytes(size), 0o755))
    links = [("lib/ollama/libggml.so.0", "libggml.so.0.9.4"), ("lib/ollama/libggml.so", "libggml.so.0")]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{version}.tar.zst"
    replace(path, compress(tarball(files, links)))
    return path


def replace(path: Path, data: bytes) -> None:
    """Atomically, and only when the bytes differ: a download in flight keeps what it opened."""
    if path.is_file() and path.read_bytes() == data:
        return
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.replace(new, path)
