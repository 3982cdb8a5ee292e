# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers, gateways and mirrors that an inventory defines, and their URLs. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import hashlib
import re
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from .._core.address import (
    GATEWAY_PORT,
    MIRROR_PORT,
    Address,
    bracketed,
    is_host_name,
    parse_ip,
    parse_url,
)
from .._core.errors import OllamaError
from .._server import settings

SERVERS, GATEWAYS, CLIENTS = "ollama_servers", "ollama_gateways", "ollama_clients"

Variables = t.Mapping[str, t.Any]
T = t.TypeVar("T")


class Fleet:
    """The hosts of an inventory according to their variables; no host is contacted.

    Reading the variables of another host is slow, so each is read once.

    :param groups: the variable ``groups``: the hosts of each group in the order of the inventory.
    :param hostvars: the variable ``hostvars``: the variables of each host.
    :raises OllamaError: every method but ``record`` raises ``value_invalid`` for a variable that it cannot use.
    """

    def __init__(self, groups: t.Mapping[str, t.Sequence[str]], hostvars: t.Mapping[str, Variables]) -> None:
        self.groups = groups
        self.hostvars = hostvars
        self._variables: dict[str, Variables] = {}
        self._gateways: list[str] | None = None

    def record(self) -> dict[str, t.Any]:
        """Return the facts that the roles require about all hosts; ``errors`` has a line for each invalid host."""
        errors: list[str] = []

        def read(method: t.Callable[[str], T], names: t.Iterable[str]) -> dict[str, T]:
            found = {}
            for name in names:
                try:
                    found[name] = method(name)
                except OllamaError as exc:
                    errors.append(exc.message)
            return found

        enabled = read(self._is_gateway, self.members(SERVERS, GATEWAYS))
        self._gateways = [name for name, value in enabled.items() if value]
        mirrors = read(self._is_mirror, self.members(SERVERS))
        urls = read(self.gateway_url, self._gateways)
        gateway = next((name for name in self.members(GATEWAYS, SERVERS) if name in urls), None)
        return {
            "servers": self.members(SERVERS),
            "gateways": self._gateways,
            "gateway": {"name": gateway, "url": urls[gateway], "private_ca": self._has_private_ca(gateway)}
            if gateway
            else {},
            "private_ca": [name for name in self._gateways if self._has_private_ca(name)],
            "pools": {name: pool for name, pool in read(self._chosen, self._gateways).items() if pool},
            "mirrors": read(self.mirror_url, [name for name, value in mirrors.items() if value]),
            "errors": list(dict.fromkeys(errors)),
        }

    def members(self, *groups: str) -> list[str]:
        """Return the hosts of some groups once each, in the order of the inventory."""
        return list(dict.fromkeys(name for group in groups for name in self.groups.get(group) or ()))

    def is_enabled(self, name: str, variable: str) -> bool:
        """Return a boolean variable of a host; false if it is not set."""
        variables = self._of(name)
        if variable not in variables:
            return False
        value = variables[variable]
        try:
            return bool(boolean(value))
        except TypeError:
            raise self._invalid(name, variable, value, "true or false") from None

    def gateways(self) -> list[str]:
        """Return the hosts that serve a gateway."""
        if self._gateways is None:
            self._gateways = [name for name in self.members(SERVERS, GATEWAYS) if self._is_gateway(name)]
        return self._gateways

    # --- URLs

    def host(self, name: str) -> str:
        """Return the address or name at which other hosts reach a host, without brackets."""
        value = self._of(name).get("ansible_host") or name
        text = str(value).strip("[]")
        if parse_ip(text) is None and not is_host_name(text):
            raise self._invalid(name, "ansible_host", value, "an IP address or a host name")
        return text

    def server(self, name: str) -> Address:
        """Return the listen address of the Ollama server of a host."""
        chosen = self._of(name).get("ollama_settings") or {}
        if not isinstance(chosen, t.Mapping):
            raise self._invalid(name, "ollama_settings", chosen, "a mapping")
        value = chosen.get("host") or "127.0.0.1"
        try:
            return settings.parse_host(value)
        except ValueError as exc:
            raise self._invalid(name, "ollama_settings.host", value, _expected(exc)) from None

    def local_url(self, name: str) -> str:
        """Return the URL at which clients on a host reach its own server."""
        return self.server(name).local.url()

    def gateway_url(self, name: str) -> str:
        """Return the URL of a host's gateway."""
        return self._url(name, "ollama_gateway", ["https"], GATEWAY_PORT)

    def mirror_url(self, name: str) -> str:
        """Return the URL of a host's mirror."""
        schemes = ["https", "http"] if self._of(name).get("ollama_mirror_tls_certificate") else ["http", "https"]
        return self._url(name, "ollama_mirror", schemes, MIRROR_PORT)

    # --- variables

    def _is_gateway(self, name: str) -> bool:
        return self.is_enabled(name, "ollama_gateway_enabled")

    def _is_mirror(self, name: str) -> bool:
        return self.is_enabled(name, "ollama_mirror_enabled")

    def _has_private_ca(self, name: str) -> bool:
        return not self._of(name).get("ollama_gateway_tls_certificate")

    def _chosen(self, name: str) -> list[str]:
        """Return the configured servers of a host's gateway; empty if the inventory determines them."""
        chosen = self._of(name).get("ollama_gateway_servers")
        if chosen is None:
            return []
        if isinstance(chosen, str) or not isinstance(chosen, t.Sequence):
            raise self._invalid(name, "ollama_gateway_servers", chosen, "a list of hosts of the inventory")
        unknown = [item for item in chosen if not isinstance(item, str) or item not in self.hostvars]
        if unknown:
            raise self._invalid(name, "ollama_gateway_servers", unknown[0], "hosts of the inventory")
        return list(chosen)

    def _url(self, name: str, prefix: str, schemes: t.Sequence[str], default: int) -> str:
        """Return the public URL of a service on a host.

        :param prefix: the prefix of its variables; ``PREFIX_url`` has precedence over address and port.
        :param schemes: the valid schemes; the first one is the default.
        :param default: the default port.
        """
        url = self._of(name).get(f"{prefix}_url")
        if url:
            try:
                scheme, address, path = parse_url(url, schemes)
            except ValueError as exc:
                raise self._invalid(name, f"{prefix}_url", None, _expected(exc)) from None
            if path:
                raise self._invalid(name, f"{prefix}_url", None, "a URL without a path")
            return (
                address.url(scheme)
                if re.search(r":\d+\Z", str(url).rstrip("/"))
                else f"{scheme}://{bracketed(address.host)}"
            )
        value = self._of(name).get(f"{prefix}_port") or default
        if isinstance(value, bool) or not re.match(r"\d{1,5}\Z", str(value)) or not 1 <= int(value) <= 65535:
            raise self._invalid(name, f"{prefix}_port", value, "a port from 1 to 65535")
        return f"{schemes[0]}://{bracketed(self.host(name))}:{int(value)}"

    def _of(self, name: str) -> Variables:
        if name not in self._variables:
            self._variables[name] = self.hostvars[name]
        return self._variables[name]

    def _invalid(self, name: str, variable: str, value: t.Any, expected: str) -> OllamaError:
        """Return the error of a variable. A value that may contain credentials is passed as None and not shown."""
        shown = "invalid value" if value is None else f"invalid value {value!r:.80}"
        return OllamaError(
            "value_invalid",
            f"{variable} of {name}: {shown}; expected {expected}",
            variable=variable,
            host=name,
        )


def _expected(error: ValueError) -> str:
    text = str(error)
    return text[len("expected ") :] if text.startswith("expected ") else text


def member(record: t.Mapping[str, t.Any], name: str, servers: t.Sequence[str] | None = None) -> dict[str, t.Any]:
    """Return the facts of one host in a fleet. Pure.

    :param record: the result of ``Fleet.record``.
    :param servers: the configured servers of the host's gateway; if empty, the record determines them.
    """
    gateways = record["gateways"] if name in record["gateways"] else [*record["gateways"], name]
    is_server = set(record["servers"])
    default = [item for item in record["gateways"] if item in is_server]

    def pool_of(gateway: str, chosen: t.Sequence[str] | None = None) -> list[str]:
        return list(chosen or record["pools"].get(gateway) or default or [gateway])

    pool = pool_of(name, servers)
    # The default pool is the same for all gateways, so the time is linear in the number of hosts.
    return {
        "gateways": gateways,
        "pool": pool,
        "balances": pool != [name],
        "drained_by": [item for item in record["gateways"] if name in (p := pool_of(item)) and p != [item]],
        "mirrors": _mirrors_of(record["mirrors"], name),
    }


def _mirrors_of(mirrors: t.Mapping[str, str], name: str) -> list[str]:
    """Return the mirrors that a host uses, in order: the first mirror varies between hosts, to distribute the load.

    A mirror uses no mirror: it pulls from the registry.
    """
    if name in mirrors:
        return []
    urls = list(mirrors.values())
    turn = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) % max(1, len(urls))
    return urls[turn:] + urls[:turn]
