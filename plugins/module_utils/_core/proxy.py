# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy and the certificate authorities for a URL from environment variables, by the rules of Ollama.

Ollama is a Go program: golang.org/x/net/http/httpproxy reads the proxies, and crypto/x509 the authorities. A server and
this collection can reach the same hosts only if both interpret these variables in the same way.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import typing as t
from urllib.parse import SplitResult, urlsplit

from .errors import OllamaError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_NUMERIC = re.compile(r"[0-9][0-9a-fx.]*\Z", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PORTS = {"http": 80, "https": 443}


def parse_environment(values: t.Mapping[str, t.Any], *, what: str) -> dict[str, str]:
    """Return the variables of an option, with names in upper case.

    :param what: the name of the option in messages.
    :raises OllamaError: ``value_invalid`` for an unknown variable, an invalid type or an invalid proxy.
    """
    result: dict[str, str] = {}
    for name, value in values.items():
        key = str(name).upper()
        known = key in VARIABLES and (name == key or key in _PROXIES)
        if not known or not isinstance(value, str):
            raise OllamaError(
                "value_invalid",
                f"{what}: invalid variable {str(name)[:40]!r}; expected strings for {', '.join(VARIABLES)}",
            )
        # In Go, the name in upper case has precedence.
        if value and (name == key or not values.get(key)):
            result[key] = value
    for key in ("HTTP_PROXY", "HTTPS_PROXY"):
        if key in result:
            _parse_proxy(result[key], f"{what}.{key}")
    return result


def own_environment() -> dict[str, str]:
    """Return the variables of this process, with names in upper case.

    For these, a name in lower case has precedence, as in Python and curl.
    """
    lower = {key.upper(): os.environ.get(key.lower(), "") for key in _PROXIES}
    return {key: value for key in VARIABLES if (value := lower.get(key) or os.environ.get(key, ""))}


def way_out(environment: t.Mapping[str, str], proxy: str | None = None) -> dict[str, str]:
    """Return the variables for a request: those of an option, which override those of this process.

    :param proxy: the proxy for this request, instead of that of the option.
    """
    if not proxy:
        return {**own_environment(), **environment}
    authorities = {key: value for key, value in environment.items() if key not in _PROXIES}
    return {**own_environment(), **authorities, "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}


def of_server(variables: t.Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a server that determine its proxies and authorities, with names in upper case.

    :raises OllamaError: ``url_invalid``.
    """
    found = {
        name: value
        for name, value in variables.items()
        if name in VARIABLES or (name.upper() in _PROXIES and name == name.lower())
    }
    return parse_environment(found, what="ollama_environment")


def variable(environment: t.Mapping[str, str], name: str) -> str:
    """Return the value of a variable. Proxies also have a name in lower case, with lower precedence."""
    return environment.get(name) or (environment.get(name.lower()) if name in _PROXIES else "") or ""


def proxy_for(url: SplitResult, environment: t.Mapping[str, str]) -> SplitResult | None:
    """Return the proxy for a URL, or None for a direct connection.

    :raises OllamaError: ``url_invalid`` for a proxy that is not a URL or does not use HTTP.
    """
    name = f"{url.scheme.upper()}_PROXY"
    text = variable(environment, name)
    if not text or is_excepted(url.hostname or "", url.port or _PORTS[url.scheme], variable(environment, "NO_PROXY")):
        return None
    proxy = _parse_proxy(text, name)
    if proxy.scheme != "http":
        raise OllamaError(
            "url_invalid",
            f"{name}: {text!r}: a {proxy.scheme} proxy cannot be used for requests of this collection; expected"
            " http://host:port",
        )
    return proxy


def _parse_proxy(text: str, name: str) -> SplitResult:
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        if proxy.scheme and proxy.hostname and (proxy.port is None or proxy.port > 0):
            return proxy
    except ValueError:
        pass
    raise OllamaError("url_invalid", f"{name}: invalid value {text!r}; expected a URL such as http://proxy.lan:3128")


def is_excepted(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a host is reached without a proxy: this host always is, and so are those in ``NO_PROXY``.

    ``NO_PROXY`` contains hosts, domains (``lan`` and its hosts; ``.lan`` and ``*.lan`` only its hosts) and addresses,
    each with or without a port; networks such as ``10.0.0.0/8``; and ``*`` for all hosts.
    """
    host = host.strip().lower().rstrip(".") or host
    if is_loopback(host):
        return True
    address = _address(host)
    for item in no_proxy.split(","):
        rule = item.strip().lower()
        if rule == "*":
            return True
        if rule and _matches(rule, host, address, port):
            return True
    return False


def _matches(rule: str, host: str, address: t.Any, port: int) -> bool:
    if "/" in rule:
        try:
            network = ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
        return address is not None and address.version == network.version and address in network
    name, rule_port = rule, ""
    match = re.match(r"(\[[^\]]*\]|[^:]*):([^:]*)\Z", rule)
    if match:
        name, rule_port = match.groups()
    if rule_port and rule_port != str(port):
        return False
    name = name.strip("[]")
    if not name:
        return False
    rule_address = _address(name)
    if rule_address is not None:
        return bool(rule_address == address)
    if name.startswith("*."):
        name = name[1:]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith("." + name)


def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this host."""
    address = _address(host)
    if address is not None:
        return bool(address.is_loopback)
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def is_internal(host: str) -> bool:
    """Return whether the host of a URL is an address that is valid only on this host or its link."""
    with contextlib.suppress(OSError):
        # The system also accepts other notations of an address, such as 127.1, 0x7f000001 and 2130706433.
        host = socket.inet_ntoa(socket.inet_aton(host)) if _NUMERIC.match(host) else host
    address = _address(host)
    return is_loopback(host) or (address is not None and (address.is_link_local or address.is_unspecified))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").split("%", 1)[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
