# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a server: it answers, with the expected version, at the expected address; and what it computes on.

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
    """What a server has to be; None is not checked.

    :ivar unit: its systemd unit on this host, whose journal shows what it computes on.
    """

    version: str | None = None
    address: str | None = None
    unit: str | None = None


def check_server(client: Client, expected: ExpectedServer, *, wait: float, check_mode: bool) -> str | None:
    """Wait for a server and compare it with what is expected; returns its version.

    :param check_mode: do not wait, and accept that no server or another version answers: None and that version.
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
    """Return what a module reports about a server on its own host: its devices and the listening sockets."""
    result: dict[str, t.Any] = {"compute": read_compute(expected.unit) if expected.unit else []}
    if expected.address:
        result["ansible_facts"] = {"ollama_listening": listening()}
    return result
