# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on the hosts of an inventory and their addresses; the code is in _service.fleet and _core.address."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._core.address import parse_address
from ..module_utils._core.errors import OllamaError
from ..module_utils._server.settings import parse_host
from ..module_utils._service.fleet import Fleet, member


def fleet(groups: t.Mapping[str, t.Sequence[str]], hostvars: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return gateways, mirrors and their URLs; mistakes are in ``errors``, one line each."""
    return Fleet(groups, hostvars).record()


def address(value: t.Any, variable: str, port: int = 0) -> dict[str, t.Any]:
    """Return the parts of an address; without a default port it is that of a server, as OLLAMA_HOST is read."""
    try:
        parsed = parse_address(value, port) if port else parse_host(value or "127.0.0.1")
    except ValueError as exc:
        raise AnsibleFilterError(f"{variable}: invalid value {value!r}; {exc}") from exc
    return {
        "host": parsed.host,
        "port": parsed.port,
        "address": str(parsed),
        "local": str(parsed.local),
        "is_ip": parsed.ip is not None,
    }


def fleet_member(record: t.Mapping[str, t.Any], name: str, servers: t.Sequence[str] | None = None) -> dict[str, t.Any]:
    """Return the part of one host in the result of the filter fleet."""
    try:
        return member(record, name, servers)
    except OllamaError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"fleet": fleet, "fleet_member": fleet_member, "address": address}
