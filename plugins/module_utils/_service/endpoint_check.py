# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the endpoint that the services of a host use: it answers, accepts the token and has the models.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import typing as t
import urllib.parse
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.http import parse_json, request
from .._core.name import parse
from .._core.text import message

_TIMEOUT = 10
_BODY_LIMIT = 8 << 20
_UNAVAILABLE = (500, 502, 503, 504)


@dataclass(frozen=True)
class Finding:
    """A problem of an endpoint, in one line.

    :ivar certain: whether the description is wrong; otherwise the endpoint may be temporarily unavailable.
    """

    text: str
    certain: bool


def check(described: t.Mapping[str, t.Any], files: t.Mapping[str, str | None]) -> list[Finding]:
    """Return the problems of a description and of its fallback.

    :param described: the content of endpoint.json.
    :param files: the contents of its keys and certificates by path; the files need not exist yet.
    """
    found = []
    for endpoint in (described, described.get("fallback")):
        if endpoint:
            finding = _check(endpoint, files)
            found += [finding] if finding else []
    return found


def _check(endpoint: t.Mapping[str, t.Any], files: t.Mapping[str, str | None]) -> Finding | None:
    provider, url = endpoint["provider"], endpoint["base_url"]
    ollama = endpoint["api"] == "ollama"
    target = f"{url}/api/tags" if ollama else _model_url(endpoint)
    try:
        status, body = _get(target, _headers(endpoint, files), files.get(endpoint["ca_file"] or ""))
    except OllamaError as exc:
        if exc.code != "tls":
            return Finding(f"provider {provider}: {url} does not answer: {exc.message}", certain=False)
        reason = getattr(exc.__cause__, "verify_message", None) or exc.message
        return Finding(
            f"provider {provider}: {url}: its certificate is not trusted ({message(str(reason))}); "
            f"see ollama_client_providers.{provider}.ca",
            certain=True,
        )
    if status in (401, 403):
        return Finding(
            f"ollama_client_keys.{provider}: {url} does not accept the token (status {status}, token not shown)",
            certain=True,
        )
    if status in _UNAVAILABLE or status == 429:
        return Finding(f"provider {provider}: {url} answers with status {status}", certain=False)
    if not ollama:
        # Servers with a compatible API need not have this route.
        missing = f"provider {provider}: {url} does not list the model {endpoint['model']}"
        return Finding(missing, certain=False) if status == 404 else None
    return _check_models(endpoint, files, status, body)


def _model_url(endpoint: t.Mapping[str, t.Any]) -> str:
    base = f"{endpoint['base_url']}/v1" if endpoint["api"] == "anthropic" else endpoint["openai_base_url"]
    return f"{base}/models/{urllib.parse.quote(endpoint['model'], safe='')}"


def _headers(endpoint: t.Mapping[str, t.Any], files: t.Mapping[str, str | None]) -> dict[str, str]:
    token = files.get(endpoint["token_file"] or "")
    if not token:
        return {}
    if endpoint["api"] == "anthropic":
        return {"x-api-key": token, "anthropic-version": "2023-06-01"}
    return {"Authorization": f"Bearer {token}"}


def _get(url: str, headers: t.Mapping[str, str], ca: str | None, data: bytes | None = None) -> tuple[int, bytes]:
    """Return the status and the body of a response. The certificate is verified, and redirects are not followed.

    :param ca: the only trusted authority, PEM; None for those of the system.
    :raises OllamaError: as `request` does.
    """
    with contextlib.ExitStack() as stack:
        path = None
        if ca:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".crt"))
            file.write(ca)
            file.flush()
            path = file.name
        method = "GET" if data is None else "POST"
        answer = request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=_TIMEOUT,
            ca_path=path,
            read_limit=_BODY_LIMIT,
            follow=False,
        )
    return answer.status, answer.body if answer.status < 300 else b""


def _check_models(
    endpoint: t.Mapping[str, t.Any], files: t.Mapping[str, str | None], status: int, body: bytes
) -> Finding | None:
    provider, url = endpoint["provider"], endpoint["base_url"]
    try:
        names = [str(row["name"]) for row in parse_json(body)["models"]]
        keys = {parse(name, allow_cloud=True, what="model").key for name in names}
    except (KeyError, TypeError, ValueError, OllamaError):
        return Finding(
            f"provider {provider}: {url} does not answer as an Ollama server (status {status})", certain=True
        )
    for option in ("model", "embedding_model"):
        model = endpoint[option]
        if model and parse(model, allow_cloud=True, what=option).key not in keys and not _shows(endpoint, files, model):
            shown = ", ".join(sorted(names)[:10]) or "none"
            return Finding(
                f"ollama_client_providers.{provider}.{option}: invalid value {model!r}; expected a model of {url}: "
                f"{message(shown)}",
                certain=True,
            )
    return None


def _shows(endpoint: t.Mapping[str, t.Any], files: t.Mapping[str, str | None], model: str) -> bool:
    """Return whether the endpoint can show a model: a gateway of several servers lists the models of one server."""
    data = json.dumps({"model": model}).encode()
    try:
        ca = files.get(endpoint["ca_file"] or "")
        status, _body = _get(f"{endpoint['base_url']}/api/show", _headers(endpoint, files), ca, data)
    except OllamaError:
        return False
    return status == 200
