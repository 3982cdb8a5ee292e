# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening sockets of this host from /proc/net/tcp, and whether the server listens only where requested.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import typing as t
from dataclasses import dataclass

from .address import SERVER_PORT, Address, parse_address
from .errors import OllamaError


@dataclass(frozen=True)
class Socket:
    """A socket that accepts connections."""

    address: str
    port: int
    uid: int
    inode: str

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return str(Address(self.address, self.port))


def listening(root: str = "/") -> t.Iterator[Socket]:
    """Yield the listening TCP sockets of this host.

    :param root: the directory that stands for /; only tests set it.
    """
    for family in ("tcp", "tcp6"):
        try:
            with open(os.path.join(root, "proc", "net", family), encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            address, _colon, port = fields[1].partition(":")
            if fields[3] == "0A":
                yield Socket(_decode(address), int(port, 16), int(fields[7]), fields[9])


def _decode(text: str) -> str:
    """Return an address of /proc/net/tcp, which has the form of little-endian 32-bit words."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    ip = ipaddress.ip_address(words)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def check(wanted: str, root: str = "/") -> None:
    """Refuse a server that does not listen on the wanted address only.

    :raises OllamaError: ``address_mismatch``.
    """
    address = parse_address(wanted, SERVER_PORT)
    sockets = list(listening(root))
    here = [item for item in sockets if item.port == address.port]
    wrong = [item for item in here if not _is_at(item, address)]
    owners = {item.uid for item in here} - {0}
    wrong += [item for item in sockets if item.uid in owners and item.port != address.port and not item.is_loopback]
    if wrong or not here:
        found = ", ".join(sorted({str(item) for item in wrong})) or "nowhere"
        raise OllamaError(
            "address_mismatch",
            f"ollama_settings.host: {wanted!r} was requested, but the server listens on {found}: "
            "does a drop-in of the unit set OLLAMA_HOST?",
            expected=wanted,
            actual=found,
        )


def _is_at(found: Socket, address: Address) -> bool:
    if address.ip is None:
        # The addresses of a host name may depend on the resolver of the host.
        return not address.is_localhost or found.is_loopback
    if address.ip.is_unspecified:
        return found.address in ("0.0.0.0", "::")
    return found.address == str(address.ip)


def overlap(listening: str, address: Address) -> bool:
    """Return whether a socket on one address prevents another one on the same port."""
    if listening in ("0.0.0.0", "::"):
        return True
    ip = address.ip
    if ip is None:
        return not address.is_localhost or listening in ("127.0.0.1", "::1")
    return ip.is_unspecified or str(ip) == listening


def accepts(address: Address) -> bool:
    """Return whether a connection to an address succeeds."""
    with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), timeout=2):
        return True
    return False


def owner(inode: str, root: str = "/") -> int | None:
    """Return the process ID of a process that holds the socket; None if no such process is visible."""
    proc = os.path.join(root, "proc")
    for pid in os.listdir(proc):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            directory = os.path.join(proc, pid, "fd")
            for descriptor in os.listdir(directory):
                with contextlib.suppress(OSError):
                    if os.readlink(os.path.join(directory, descriptor)) == f"socket:[{inode}]":
                        return int(pid)
    return None
