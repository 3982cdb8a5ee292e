# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint description for services: what role ollama_client was told, checked, and the files that it becomes.

The contract with those who read the files is docs/endpoint.md. Pure.

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

# Values stand in the environment file as they are: nothing that sh, systemd or docker would read as more than text.
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._/-]*)?")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
# RFC 6750. Whatever else stands in a token ends a header, a line or a quoted string somewhere.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class Provider:
    """What is the same for everybody who uses this provider."""

    api: str
    """The protocol at its base URL."""
    url: str
    """Its base URL; empty where only the inventory knows it."""
    openai_path: str
    """Where the OpenAI-compatible API is, seen from the base URL."""
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
    """The role's variables, and what it found in the inventory."""

    provider: str
    fallback: str = ""
    providers: t.Mapping[str, t.Mapping[str, str | None]] = field(default_factory=dict)
    keys: t.Mapping[str, t.Any] = field(default_factory=dict)
    group: str = "kaido-ollama"
    forwarder: str = ""
    """Where the forwarder listens, address and port; empty where none is spec."""
    local_url: str = ""
    gateway_url: str = ""
    """The gateway of the inventory; empty where there is none."""
    gateway_has_ca: bool = False
    """Whether its certificate is from a private authority."""
    gateway_ca: str = ""
    """The certificate of that; empty as long as it was not fetched."""

    @property
    def used(self) -> list[str]:
        """The providers that are described."""
        return [name for name in (self.provider, self.fallback) if name in PROVIDERS and self.provider in PROVIDERS]

    def own(self, name: str, option: str) -> str:
        """Return what the user said about a provider; empty where nothing."""
        return str((self.providers.get(name) or {}).get(option) or "")

    def has_gateways_ca(self, name: str) -> bool:
        """Return whether this is the inventory's gateway, to be trusted by its own authority."""
        return name == "gateway" and self.gateway_has_ca and not self.own(name, "url") and not self.own(name, "ca")


def plan(spec: EndpointSpec) -> dict[str, t.Any]:
    """Check everything, and return the files.

    :raises OllamaError: ``invalid_client``.
    """
    if spec.provider == spec.fallback:
        raise _bad(f"ollama_client_fallback: {spec.fallback!r} is the provider itself; name another one, or none")
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
        # The descriptions come last: what they name is there by then.
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
    """Return one provider as services see it, without version and fallback.

    :raises OllamaError: ``invalid_client``.
    """
    provider = PROVIDERS[name]
    url = _url(spec, name)
    model = _model(spec, name, "model")
    if not model:
        raise _bad(f"ollama_client_providers.{name}.model: missing; name the model that services use by default")
    if provider.needs_key:
        _check_key(spec.keys, name)
    ca = spec.own(name, "ca")
    if ca and not ca.lstrip().startswith("-----BEGIN CERTIFICATE-----"):
        raise _bad(f"ollama_client_providers.{name}.ca: not a certificate; give the text of a PEM file")
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
    """Return the description as lines for sh and systemd alike; what is null is empty."""
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
    return OllamaError("invalid_client", message)


def _model(spec: EndpointSpec, name: str, option: str) -> str:
    model = spec.own(name, option)
    if model and not _MODEL.fullmatch(model):
        raise _bad(
            f"ollama_client_providers.{name}.{option}: {model!r} is not a model's name; "
            "allowed are letters, digits and . _ : / @ -"
        )
    return model


def _url(spec: EndpointSpec, name: str) -> str:
    own = spec.own(name, "url")
    found = {"local": spec.local_url, "gateway": spec.gateway_url}.get(name, PROVIDERS[name].url)
    if not own and not found:
        raise _bad(
            "ollama_client_provider: gateway: there is no gateway in the inventory; set ollama_gateway_enabled: true "
            "for a host of the group ollama_servers or ollama_gateways, or ollama_client_providers.gateway.url"
        )
    where = f"ollama_client_providers.{name}.url" if own else f"the URL of {name}"
    url = own or found
    if "@" in url:
        raise _bad(f"{where}: has a user or password in it; keys belong into ollama_client_keys")
    try:
        parts = urlsplit(url)
        valid = _URL.fullmatch(url) and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise _bad(f"{where}: {url!r} is not allowed; give https://host, https://host:port or https://host:port/path")
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        raise _bad(f"{where}: {url!r} would send prompts and keys in clear; give https://, or an address of loopback")
    if PROVIDERS[name].api == "ollama" and parts.path.strip("/"):
        raise _bad(f"{where}: {url!r} has a path; Ollama has none")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_key(keys: t.Mapping[str, t.Any], name: str) -> None:
    """Refuse what cannot be a bearer token, without showing it."""
    key = keys.get(name)
    if not key:
        raise _bad(f"ollama_client_keys.{name}: missing; {name} answers nobody without a key")
    if not _TOKEN.fullmatch(str(key)):
        raise _bad(
            f"ollama_client_keys.{name}: not a key (not shown); allowed are letters, digits and . _ ~ + / - and = at "
            "its end: no spaces, quotes or line breaks, also not at the end"
        )
