# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, ports and URLs: the only parser and formatter of this collection. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit

SERVER_PORT = 11434
GATEWAY_PORT = 11443
MIRROR_PORT = 11480

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?\Z")

IpAddress = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclass(frozen=True)
class Address:
    """A host and a port.

    :ivar host: an IPv4 or IPv6 address without brackets, or a host name.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def ip(self) -> IpAddress | None:
        """The IP address, or None for a host name."""
        return parse_ip(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.is_localhost if self.ip is None else self.ip.is_loopback

    @property
    def is_localhost(self) -> bool:
        """Whether it is the name localhost, which means both loopback addresses."""
        return self.host.lower().rstrip(".") == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means all interfaces of a host."""
        return self.ip is not None and self.ip.is_unspecified

    @property
    def local(self) -> Address:
        """The address at which a client on the same host reaches a server with this listen address."""
        if not self.is_wildcard:
            return self
        return Address("127.0.0.1" if t.cast(IpAddress, self.ip).version == 4 else "::1", self.port)

    def url(self, scheme: str = "http") -> str:
        """Return the URL of this address, without a path."""
        return f"{scheme}://{self}"


def parse_ip(text: str) -> IpAddress | None:
    """Return an IP address, or None for other texts. A zone (``fe80::1%eth0``) is part of an IPv6 address."""
    try:
        return ipaddress.ip_address(text.split("%", 1)[0] if ":" in text else text)
    except ValueError:
        return None


def is_host_name(text: str) -> bool:
    """Return whether a text is a valid host name. A text of digits and dots is not one."""
    return len(text) <= 253 and bool(_HOST_NAME.match(text)) and not re.match(r"[\d.]+\Z", text)


def bracketed(host: str) -> str:
    """Return a host in the form for URLs and before a port: IPv6 addresses are in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def parse_address(text: t.Any, default_port: int) -> Address:
    """Return the address in a text ``HOST``, ``HOST:PORT``, ``IPV6``, ``[IPV6]`` or ``[IPV6]:PORT``.

    :raises ValueError: for any other value, with the expected form.
    """
    expected = f"expected HOST or HOST:PORT, for example 127.0.0.1:{default_port} or [::1]:{default_port}"
    if not isinstance(text, str):
        raise ValueError(expected)
    host, port = text.strip(), str(default_port)
    in_brackets = re.match(r"\[([^\]]*)\](?::(.*))?\Z", host)
    if in_brackets:
        host = in_brackets.group(1)
        port = port if in_brackets.group(2) is None else in_brackets.group(2)
        if not isinstance(parse_ip(host), ipaddress.IPv6Address):
            raise ValueError(expected)
    elif host.count(":") == 1:
        host, port = host.split(":")
    if not re.match(r"\d{1,5}\Z", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"expected a port from 1 to 65535; {expected}")
    if parse_ip(host) is None and not is_host_name(host):
        raise ValueError(expected)
    return Address(host, int(port))


def parse_url(text: t.Any, schemes: t.Sequence[str] = ("http", "https")) -> tuple[str, Address, str]:
    """Return scheme, address and path of a URL. The default port is that of the scheme.

    :raises ValueError: for any other value, credentials, queries and fragments, with the expected form. The message
        never contains the URL.
    """
    expected = f"expected {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}"
    try:
        parts = urlsplit(text) if isinstance(text, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in schemes or not parts.netloc or re.search(r"[\s\x00-\x1f\\]", text):
        raise ValueError(expected)
    if "@" in parts.netloc:
        raise ValueError(f"{expected}, without credentials")
    if parts.query or parts.fragment:
        raise ValueError(f"{expected}, without a query or fragment")
    address = parse_address(parts.netloc, {"http": 80, "https": 443}.get(parts.scheme, 0))
    return parts.scheme, address, parts.path.rstrip("/")
