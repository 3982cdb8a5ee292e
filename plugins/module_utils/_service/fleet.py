# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory defines: which hosts are servers, gateways and mirrors, and at which URLs. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from .._core.address import (
    GATEWAY_PORT,
    MIRROR_PORT,
    SERVER_PORT,
    Address,
    bracketed,
    is_host_name,
    parse_address,
    parse_ip,
)
from .._core.errors import OllamaError

SERVERS, GATEWAYS, CLIENTS = "ollama_servers", "ollama_gateways", "ollama_clients"

Variables = t.Mapping[str, t.Any]


class Fleet:
    """The hosts of an inventory as their variables define them; no host is contacted.

    :param groups: the variable ``groups``: the hosts of each group in the order of the inventory.
    :param hostvars: the variable ``hostvars``: the variables of each host.
    :raises OllamaError: every method raises ``invalid_variable`` for a variable of any host that it cannot use.
    """

    def __init__(self, groups: t.Mapping[str, t.Sequence[str]], hostvars: t.Mapping[str, Variables]) -> None:
        self.groups = groups
        self.hostvars = hostvars

    def members(self, *groups: str) -> list[str]:
        """Return the hosts of some groups once each, in the order of the inventory."""
        return list(dict.fromkeys(name for group in groups for name in self.groups.get(group) or ()))

    def is_enabled(self, name: str, variable: str) -> bool:
        """Return a boolean variable of a host, false where it is not set."""
        value = self.hostvars[name].get(variable)
        try:
            return False if value in (None, "") else boolean(value)
        except TypeError:
            raise self._invalid(name, variable, value, "true or false") from None

    def gateways(self) -> list[str]:
        """Return the hosts that serve a gateway."""
        return [name for name in self.members(SERVERS, GATEWAYS) if self.is_enabled(name, "ollama_gateway_enabled")]

    def mirrors(self) -> dict[str, str]:
        """Return the URL of each host that serves its models to the others."""
        found = [name for name in self.members(SERVERS) if self.is_enabled(name, "ollama_mirror_enabled")]
        return {name: self.mirror_url(name) for name in found}

    def mirrors_of(self, name: str) -> list[str]:
        """Return the mirrors that a host uses, in its order: each host begins with another one, to share the load.

        A mirror itself uses none: it pulls from the registry.
        """
        mirrors = self.mirrors()
        if name in mirrors:
            return []
        urls = list(mirrors.values())
        turn = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) % max(1, len(urls))
        return urls[turn:] + urls[:turn]

    def pool(self, name: str) -> list[str]:
        """Return the servers among which the gateway of a host spreads requests; at least that host itself."""
        chosen = self.hostvars[name].get("ollama_gateway_servers") or []
        if isinstance(chosen, str) or not isinstance(chosen, t.Sequence):
            raise self._invalid(name, "ollama_gateway_servers", chosen, "a list of hosts of the inventory")
        unknown = [item for item in chosen if item not in self.hostvars]
        if unknown:
            raise self._invalid(name, "ollama_gateway_servers", unknown[0], "hosts of the inventory")
        servers = self.members(SERVERS)
        return list(chosen) or [item for item in self.gateways() if item in servers] or [name]

    def balances(self, name: str) -> bool:
        """Return whether the gateway of a host spreads requests over other servers."""
        return self.pool(name) != [name]

    def drained_by(self, name: str) -> list[str]:
        """Return the gateways that send requests to a server through a balancer."""
        return [item for item in self.gateways() if self.balances(item) and name in self.pool(item)]

    # --- URLs

    def host(self, name: str) -> str:
        """Return the address or name at which other hosts reach a host, without brackets."""
        value = self.hostvars[name].get("ansible_host") or name
        text = str(value).strip("[]")
        if parse_ip(text) is None and not is_host_name(text):
            raise self._invalid(name, "ansible_host", value, "an IP address or a host name")
        return text

    def server(self, name: str) -> Address:
        """Return where the Ollama server of a host listens."""
        settings = self.hostvars[name].get("ollama_settings") or {}
        if not isinstance(settings, t.Mapping):
            raise self._invalid(name, "ollama_settings", settings, "a mapping")
        value = settings.get("host") or "127.0.0.1"
        text = str(value)
        text = text[len("http://") :] if text.startswith("http://") else text
        try:
            return parse_address(text.rstrip("/"), SERVER_PORT)
        except ValueError as exc:
            raise self._invalid(name, "ollama_settings.host", value, str(exc)[len("expected ") :]) from None

    def local_url(self, name: str) -> str:
        """Return the URL at which clients on a host reach its own server."""
        return self.server(name).local.url()

    def gateway_url(self, name: str) -> str:
        """Return the URL of a host's gateway."""
        return str(self.hostvars[name].get("ollama_gateway_url") or "").rstrip("/") or self._url(
            name, "https", "ollama_gateway_port", GATEWAY_PORT
        )

    def mirror_url(self, name: str) -> str:
        """Return the URL of a host's mirror."""
        scheme = "https" if self.hostvars[name].get("ollama_mirror_tls_certificate") else "http"
        return str(self.hostvars[name].get("ollama_mirror_url") or "").rstrip("/") or self._url(
            name, scheme, "ollama_mirror_port", MIRROR_PORT
        )

    def _url(self, name: str, scheme: str, variable: str, default: int) -> str:
        value = self.hostvars[name].get(variable) or default
        if not str(value).isdigit() or not 1 <= int(value) <= 65535:
            raise self._invalid(name, variable, value, "a port from 1 to 65535")
        return f"{scheme}://{bracketed(self.host(name))}:{int(value)}"

    def _invalid(self, name: str, variable: str, value: t.Any, expected: str) -> OllamaError:
        return OllamaError(
            "invalid_variable",
            f"{variable} of {name}: invalid value {value!r}; expected {expected}",
            variable=variable,
            host=name,
        )
