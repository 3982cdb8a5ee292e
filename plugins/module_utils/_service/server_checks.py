# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a server: it answers with the expected version at the expected address. Also its compute devices.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.sockets import check as check_address
from .._server.api import Client
from .._server.journal import read_compute
from .units import listening


@dataclass(frozen=True)
class ExpectedServer:
    """The expected properties of a server; None means that a property is not checked.

    :ivar unit: its systemd unit on this host, whose journal lists the compute devices.
    """

    version: str | None = None
    address: str | None = None
    unit: str | None = None


def check_server(client: Client, expected: ExpectedServer, *, wait: float, check_mode: bool) -> str | None:
    """Wait for a server, verify its properties and return its version.

    :param wait: seconds.
    :param check_mode: whether to skip the wait and accept no server, for which None is returned, or another version.
    :raises OllamaError: ``server_unreachable``, ``version_mismatch``, ``address_mismatch`` and those of the client.
    """
    version: str | None = None
    try:
        version = client.wait(0 if check_mode else wait)
    except OllamaError:
        if not check_mode:
            raise
    if expected.version and version != expected.version and not check_mode:
        raise OllamaError(
            "version_mismatch",
            f"version: expected {expected.version}, but {version} answers at {client.base_url}",
        )
    if expected.address and version:
        check_address(expected.address)
    return version


def observed(expected: ExpectedServer) -> dict[str, t.Any]:
    """Return the facts about a server on the host of the module: its compute devices and the listening sockets."""
    result: dict[str, t.Any] = {"compute": read_compute(expected.unit) if expected.unit else []}
    if expected.address:
        result["ansible_facts"] = {"ollama_listening": listening()}
    return result
