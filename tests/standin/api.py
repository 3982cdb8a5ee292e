# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of the API of Ollama outside of any group, and what all share. Texts are those of the recordings."""

from __future__ import annotations

import http
import time
import typing as t

from . import gojson, names

if t.TYPE_CHECKING:
    from .server import Handler, Server

Json = dict[str, t.Any]


class Failure(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def now() -> str:
    return gojson.rfc3339(time.time())


def asked_name(request: Json) -> str:
    return request.get("model") or request.get("name") or ""


def resolve(app: Server, text: str) -> names.Name:
    """Return the stored name for the text, or the parsed name itself, also an invalid one."""
    found = app.store.by_digest(text)
    if found:
        return found
    name = names.parse(text)
    return app.store.canonical(name) if name.valid else name


def root(app: Server, handler: Handler) -> None:
    handler.send_plain(http.HTTPStatus.OK, "Ollama is running", "text/plain; charset=utf-8")


def version(app: Server, handler: Handler) -> None:
    handler.send_json(200, {"version": app.version})


def status(app: Server, handler: Handler) -> None:
    source = "env" if app.settings.no_cloud else "none"
    handler.send_json(200, {"cloud": {"disabled": app.settings.no_cloud, "source": source}})
