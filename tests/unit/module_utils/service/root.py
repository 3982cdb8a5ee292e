# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that stands for / with services, processes and sockets."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._service.units import SERVICES

MARKED = "# Managed by the Ansible role kaido.ollama.x: changes here are lost.\n[Service]\n"


def make(root: Path, path: str, content: str = "x") -> Path:
    """Write a file below a directory that stands for /."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def install(root: Path, *names: str) -> None:
    """Create everything that services consist of."""
    for name in names:
        service = SERVICES[name]
        for path in service.files:
            make(root, path)
        for path in service.trees:
            make(root, f"{path}/deep/file")
        if service.unit_path:
            make(root, service.unit_path, MARKED)


def files(root: Path) -> set[str]:
    """Return the paths of all files and links below a directory."""
    return {"/" + str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def process(root: Path, pid: int, unit: str = "ollama-mirror.service", maps: str = "", **links: str) -> None:
    """Create a process as procfs shows it."""
    make(root, f"proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
    make(root, f"proc/{pid}/maps", maps)
    (root / f"proc/{pid}/fd").mkdir()
    for number, target in links.items():
        (root / f"proc/{pid}/fd" / number.strip("_")).symlink_to(target)


def tcp(root: Path, *sockets: tuple[str, int, int, int]) -> None:
    """Write the table of sockets: address in hexadecimal, port, uid and inode."""
    lines = [
        f"  0: {address}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 0\n"
        for address, port, uid, inode in sockets
    ]
    make(root, "proc/net/tcp", "header\n" + "".join(lines))
