# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint description for services: validated variables of the role ollama_client, and its files. Pure.

docs/endpoint.md specifies the files for the services that read them.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import ipaddress
import json
import re
import typing as t
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .._core.errors import OllamaError

DIRECTORY = "/etc/kaido-ollama"
PROFILE = "/etc/profile.d/kaido-ollama.sh"
VERSION = 1

# Values are written to the environment file without quoting, so sh, systemd and Docker must not interpret a character.
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._/-]*)?")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
# The b64token of RFC 6750. Other characters could end a header, a line or a quoted string.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class Provider:
    """The constant properties of a provider."""

    api: str
    """The protocol at the base URL: ollama, openai, anthropic or google."""
    url: str
    """The base URL; empty if it comes from the inventory."""
    openai_path: str
    """The path of the OpenAI-compatible API below the base URL."""
    needs_key: bool = True


PROVIDERS = {
    "local": Provider("ollama", "", "/v1", needs_key=False),
    "gateway": Provider("ollama", "", "/v1"),
    "openai": Provider("openai", "https://api.openai.com/v1", ""),
    "anthropic": Provider("anthropic", "https://api.anthropic.com", "/v1"),
    "google": Provider("google", "https://generativelanguage.googleapis.com", "/v1beta/openai"),
}


@dataclass(frozen=True)
class EndpointSpec:
    """The variables of the role, and values from the inventory."""

    provider: str
    fallback: str = ""
    providers: t.Mapping[str, t.Mapping[str, str | None]] = field(default_factory=dict)
    keys: t.Mapping[str, t.Any] = field(default_factory=dict)
    group: str = "kaido-ollama"
    forwarder: str = ""
    """The address and port on which the forwarder listens; empty without a forwarder."""
    local_url: str = ""
    gateway_url: str = ""
    """The URL of the gateway in the inventory; empty without a gateway."""
    gateway_has_ca: bool = False
    """Whether a private authority signs the certificate of the gateway."""
    gateway_ca: str = ""
    """The certificate of that authority; empty until it is fetched."""

    @property
    def used(self) -> list[str]:
        """The names of the provider and of its fallback, if there is one."""
        return [name for name in (self.provider, self.fallback) if name in PROVIDERS and self.provider in PROVIDERS]

    def own(self, name: str, option: str) -> str:
        """Return an option of a provider; empty if it is not set."""
        return str((self.providers.get(name) or {}).get(option) or "")

    def has_gateways_ca(self, name: str) -> bool:
        """Return whether the provider is the gateway of the inventory with a certificate of a private authority."""
        return name == "gateway" and self.gateway_has_ca and not self.own(name, "url") and not self.own(name, "ca")


def plan(spec: EndpointSpec) -> dict[str, t.Any]:
    """Validate the variables and return the description and its files.

    :raises OllamaError: ``endpoint_invalid``.
    """
    if spec.provider == spec.fallback:
        raise _bad(
            f"ollama_client_fallback: invalid value {spec.fallback!r}; "
            "expected another provider than ollama_client_provider"
        )
    described = [describe(spec, name) for name in spec.used]
    files: dict[str, dict[str, t.Any]] = {}
    for name in PROVIDERS:
        used = name in spec.used
        key = str(spec.keys[name]) if used and PROVIDERS[name].needs_key else None
        ca = spec.gateway_ca if spec.has_gateways_ca(name) else spec.own(name, "ca")
        files[f"{DIRECTORY}/keys/{name}"] = {"content": key, "mode": "0640", "group": spec.group}
        files[f"{DIRECTORY}/ca/{name}.crt"] = {"content": ca if used and ca else None}
    forwards = bool(spec.provider == "gateway" and spec.forwarder)
    host = spec.forwarder if forwards else described[0]["base_url"] if spec.provider == "local" else None
    profile = f': "${{OLLAMA_HOST:={host}}}"\nexport OLLAMA_HOST\n' if host else None
    files[PROFILE] = {"content": profile}
    endpoint: dict[str, t.Any] = {}
    if described:
        fallback = {**described[1], "fallback": None} if described[1:] else None
        endpoint = {"version": VERSION, **described[0], "fallback": fallback}
        # The descriptions are written after the files to which they refer.
        files[f"{DIRECTORY}/endpoint.env"] = {"content": environment(endpoint)}
        files[f"{DIRECTORY}/endpoint.json"] = {"content": json.dumps(endpoint, indent=2) + "\n"}
    else:
        files[DIRECTORY] = {"content": None}
    return {
        "endpoint": endpoint or None,
        "files": files,
        "needs_gateway_ca": any(spec.has_gateways_ca(name) for name in spec.used),
        "forwards": forwards,
    }


def describe(spec: EndpointSpec, name: str) -> dict[str, str | None]:
    """Return the description of one provider, without version and fallback.

    :raises OllamaError: ``endpoint_invalid``.
    """
    provider = PROVIDERS[name]
    url = _url(spec, name)
    model = _model(spec, name, "model")
    if not model:
        raise _bad(f"ollama_client_providers.{name}.model: missing; expected the default model of services")
    if provider.needs_key:
        _check_key(spec.keys, name)
    ca = spec.own(name, "ca")
    if ca and not ca.lstrip().startswith("-----BEGIN CERTIFICATE-----"):
        raise _bad(f"ollama_client_providers.{name}.ca: invalid value; expected the text of a PEM file")
    return {
        "provider": name,
        "api": provider.api,
        "base_url": url,
        "openai_base_url": url + provider.openai_path,
        "model": model,
        "embedding_model": _model(spec, name, "embedding_model") or None,
        "token_file": f"{DIRECTORY}/keys/{name}" if provider.needs_key else None,
        "ca_file": f"{DIRECTORY}/ca/{name}.crt" if ca or spec.has_gateways_ca(name) else None,
    }


def environment(endpoint: t.Mapping[str, t.Any], prefix: str = "KAIDO_OLLAMA_") -> str:
    """Return the description as lines that sh and systemd can read; null becomes an empty value."""
    lines = [
        f"{prefix}{name.upper()}={'' if value is None else value}\n"
        for name, value in endpoint.items()
        if name != "fallback"
    ]
    if "version" in endpoint:
        fallback = endpoint["fallback"] or dict.fromkeys(name for name in endpoint if name != "version")
        lines.append(environment(fallback, f"{prefix}FALLBACK_"))
    return "".join(lines)


def _bad(message: str) -> OllamaError:
    return OllamaError("endpoint_invalid", message)


def _model(spec: EndpointSpec, name: str, option: str) -> str:
    model = spec.own(name, option)
    if model and not _MODEL.fullmatch(model):
        raise _bad(
            f"ollama_client_providers.{name}.{option}: invalid value {model!r}; "
            "expected the name of a model: letters, digits and . _ : / @ -"
        )
    return model


def _url(spec: EndpointSpec, name: str) -> str:
    own = spec.own(name, "url")
    found = {"local": spec.local_url, "gateway": spec.gateway_url}.get(name, PROVIDERS[name].url)
    if not own and not found:
        raise _bad(
            "ollama_client_provider: invalid value 'gateway'; expected a gateway in the inventory: set "
            "ollama_gateway_enabled: true for a host of the group ollama_servers or ollama_gateways, or "
            "ollama_client_providers.gateway.url"
        )
    where = f"ollama_client_providers.{name}.url" if own else f"the URL of {name}"
    url = own or found
    if "@" in url:
        raise _bad(f"{where}: invalid value (not shown); expected a URL without credentials; use ollama_client_keys")
    try:
        parts = urlsplit(url)
        valid = _URL.fullmatch(url) and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise _bad(
            f"{where}: invalid value {url!r}; expected https://HOST, https://HOST:PORT or https://HOST:PORT/PATH"
        )
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        raise _bad(
            f"{where}: invalid value {url!r}; expected https://, since http:// sends prompts and keys unencrypted"
        )
    if PROVIDERS[name].api == "ollama" and parts.path.strip("/"):
        raise _bad(f"{where}: invalid value {url!r}; expected a URL without a path")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_key(keys: t.Mapping[str, t.Any], name: str) -> None:
    """Refuse an invalid bearer token; the error does not contain it."""
    key = keys.get(name)
    if not key:
        raise _bad(f"ollama_client_keys.{name}: missing; the provider {name} requires a key")
    if not _TOKEN.fullmatch(str(key)):
        raise _bad(
            f"ollama_client_keys.{name}: invalid value (not shown); expected letters, digits and . _ ~ + / -, with "
            "= at the end, without spaces, quotes or line breaks"
        )
