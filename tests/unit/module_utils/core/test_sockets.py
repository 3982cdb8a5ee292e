# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the server listens where requested, according to tables of the kernel."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import sockets
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError

LOOPBACK, ANY, LAN = "0100007F", "00000000", "0A00A8C0"
LOOPBACK6, ANY6 = "00000000000000000000000001000000", "0" * 32
SERVER, OTHER = 997, 33
PORT = 11434


def line(address: str, port: int, uid: int = SERVER, state: str = "0A") -> str:
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid} 0 5 1 0 0\n"


def check(root: Path, wanted: str, *lines: str) -> None:
    (root / "proc" / "net").mkdir(parents=True, exist_ok=True)
    for family, length in (("tcp", 8), ("tcp6", 32)):
        own = [text for text in lines if len(text.split()[1].partition(":")[0]) == length]
        (root / "proc" / "net" / family).write_text("header\n" + "".join(own))
    sockets.check(wanted, str(root))


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ("127.0.0.1:11434", [line(LOOPBACK, PORT)]),
        ("[::1]:11434", [line(LOOPBACK6, PORT)]),
        ("localhost:11434", [line(LOOPBACK, PORT), line(LOOPBACK6, PORT)]),
        ("192.168.0.10:11434", [line(LAN, PORT)]),
        ("0.0.0.0:11434", [line(ANY6, PORT)]),
        ("hecate.lan:11434", [line(LAN, PORT)]),
        # The runners of the server, and whatever others do.
        ("127.0.0.1:11434", [line(LOOPBACK, PORT), line(LOOPBACK, 40001), line(ANY, 80, OTHER), line(ANY, 22, 0)]),
        ("127.0.0.1:11434", [line(LOOPBACK, PORT), line(ANY, PORT, state="01")]),
        # A server that runs as root: other sockets of root are ambiguous.
        ("127.0.0.1:11434", [line(LOOPBACK, PORT, 0), line(ANY, 22, 0)]),
    ],
)
def test_as_requested(tmp_path: Path, wanted: str, lines: list[str]) -> None:
    check(tmp_path, wanted, *lines)


@pytest.mark.parametrize(
    ("wanted", "lines", "found"),
    [
        ("127.0.0.1:11434", [line(ANY, PORT)], "0.0.0.0:11434"),
        ("127.0.0.1:11434", [line(ANY6, PORT)], "[::]:11434"),
        ("127.0.0.1:11434", [line(LOOPBACK, PORT), line(LAN, PORT)], "192.168.0.10:11434"),
        ("127.0.0.1:11434", [line(LOOPBACK, PORT), line(ANY, 11435)], "0.0.0.0:11435"),
        ("localhost:11434", [line(LOOPBACK, PORT), line(LAN, PORT)], "192.168.0.10:11434"),
        ("192.168.0.10:11434", [line(ANY, PORT)], "0.0.0.0:11434"),
        ("127.0.0.1:11434", [line(LOOPBACK, 11435)], "nowhere"),
    ],
)
def test_another_module_is_not_affected(tmp_path: Path, wanted: str, lines: list[str], found: str) -> None:
    with pytest.raises(OllamaError) as caught:
        check(tmp_path, wanted, *lines)
    assert caught.value.code == "address_mismatch"
    assert caught.value.details == {"expected": wanted, "actual": found}
    assert "ollama_settings.host" in caught.value.message


def test_the_kernels_own_table() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ("127.0.0.1", port) in {(found.address, found.port) for found in sockets.listening()}
