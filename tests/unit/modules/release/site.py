# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with releases over real HTTP, with configurable faults, and a host that installs from it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kaido.ollama.plugins.modules import release

from tests.lab import engine
from tests.unit.conftest import RunModule

engine.ensure_tools({"zstd": "zstd"})

# Padding that does not compress, so that downloads have a middle to break in.
PADDING = hashlib.shake_256(b"padding").digest(3 << 20)


def program(version: str) -> bytes:
    message = f"Warning: could not connect to a running Ollama instance\nWarning: client version is {version}"
    return f"#!/bin/sh\n[ \"$OLLAMA_HOST\" = 127.0.0.1:1 ] && printf '%s\\n' '{message}'\n".encode()


def tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def archive(version: str, **extra: Any) -> bytes:
    files = {"bin/ollama": program(version), "lib/ollama/llama-server": b"x", "lib/ollama/padding": PADDING}
    return zstd(tar({**files, **extra}))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


ARCHIVES = {version: archive(version) for version in ("0.34.4", "0.35.0", "0.35.1")}


def checksum(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """A release site with configurable faults."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    misbehave: list[Callable[[Any, bytes], bool]] = field(default_factory=list)


def cut(at: int) -> Callable[[Any, bytes], bool]:
    """Answer with the beginning only, though all of it was announced."""

    def misbehave(handler: Any, data: bytes) -> bool:
        handler.answer(200, data[:at], claim=len(data))
        return True

    return misbehave


def status(code: int) -> Callable[[Any, bytes], bool]:
    def misbehave(handler: Any, _data: bytes) -> bool:
        handler.answer(code, b"sorry")
        return True

    return misbehave


def stall(at: int) -> Callable[[Any, bytes], bool]:
    def misbehave(handler: Any, data: bytes) -> bool:
        handler.answer(200, data[:at], claim=len(data))
        handler.rfile.read()  # until the client hangs up
        return True

    return misbehave


def ignore_range(handler: Any, data: bytes) -> bool:
    handler.answer(200, data)
    return True


@dataclass
class Host:
    """A host's two directories, and the module on them."""

    root: Path
    site: Site
    run_module: RunModule

    @property
    def opt(self) -> Path:
        return self.root / "opt" / "ollama"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    def release(self, version: str, /, *, check: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {
            "version": version,
            "checksum": checksum(ARCHIVES.get(version, b"")),
            "base_url": self.site.url,
            "install_dir": str(self.opt),
            "bin_dir": str(self.bin),
        }
        return self.run_module(release, {**defaults, **params}, check=check, diff=True)

    def tree(self) -> dict[str, str]:
        """Everything below the host's root, with links' targets and files' checksums."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file() and path.name != ".lock":
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def version(self) -> str:
        """The version that the program of users reports."""
        done = subprocess.run(
            [self.bin / "ollama"], env={"OLLAMA_HOST": "127.0.0.1:1"}, capture_output=True, check=True
        )
        return done.stdout.decode().split()[-1]


def refuse(host: Host, code: str, **params: Any) -> dict[str, Any]:
    """Fail with a code, leaving all but the beginning of a download as it was."""
    host.release("0.34.4")
    before = host.tree()
    result = host.release("0.35.1", **params)
    assert result["failed"]
    assert result["failure"]["code"] == code
    assert "\n" not in result["msg"]
    assert {name: value for name, value in host.tree().items() if "/download/" not in name} == before
    assert host.version() == "0.34.4"
    return result


def serve(host: Host, data: bytes) -> dict[str, Any]:
    host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"] = data
    return {"checksum": checksum(data)}


# Variants


ROCM = "ollama-linux-amd64-rocm.tar.zst"
BASE = "ollama-linux-amd64.tar.zst"


def overlay(host: Host, members: dict[str, bytes | tarfile.TarInfo]) -> dict[str, Any]:
    """Publish an archive that lies over 0.35.1; returns the parameters that ask for it."""
    data = zstd(tar(members))
    host.site.files[f"/v0.35.1/{ROCM}"] = data
    return {
        "variants": ["rocm"],
        "checksum": None,
        "checksums": {BASE: checksum(ARCHIVES["0.35.1"]), ROCM: checksum(data)},
    }


def vendor(host: Host, version: str = "0.34.4") -> Path:
    """Lay out what install.sh leaves; returns the directory of its libraries."""
    (host.bin / "ollama").write_bytes(program(version))
    (host.bin / "ollama").chmod(0o755)
    lib = host.root / "lib" / "ollama"
    (lib / "cuda_v12").mkdir(parents=True)
    (lib / "llama-server").write_bytes(b"vendor's")
    (lib / "libggml-base.so").symlink_to("libggml-base.so.0")
    return lib


def is_right(host: Host) -> bool:
    """Return whether the libraries of the current release are those of the published archive."""
    lib = host.opt / "current/lib/ollama"
    return not (lib / "evil").exists() and (lib / "padding").read_bytes() == PADDING
