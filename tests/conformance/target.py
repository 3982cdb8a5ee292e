# SPDX-License-Identifier: GPL-3.0-or-later
"""The server under test: requests, pulls, and its model store if it is accessible."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import pathlib
import typing as t
import urllib.parse

NAMESPACE = "kaido-conformance"  # of every model that a case makes by another way than its own registry


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def lines(self) -> list[str]:
        return [line for line in self.body.decode().split("\n") if line]

    def json(self) -> t.Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(json.loads(self.lines[-1]).get("error", ""))


class Target:
    def __init__(self, url: str, models_dir: pathlib.Path | None) -> None:
        parts = urllib.parse.urlsplit(url)
        self.url = url
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.models_dir = models_dir
        self.version = str(self.call("GET", "/api/version").json()["version"])
        numbers = tuple(int(part) for part in self.version.split("-", maxsplit=1)[0].split(".")[:2])
        self.generation = 2 if numbers >= (0, 40) else 1

    def connect(self, timeout: float = 120) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def call(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        raw: bytes | None = None,
        headers: t.Mapping[str, str] | None = None,
    ) -> Reply:
        connection = self.connect()
        data = raw if body is None else json.dumps(body).encode()
        try:
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # it may answer before it has read the body
                connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def pull(self, model: str, **more: t.Any) -> list[dict[str, t.Any]]:
        reply = self.call("POST", "/api/pull", {"model": model, "insecure": True, **more})
        return [json.loads(line) for line in reply.lines]

    def pulled(self, model: str) -> list[dict[str, t.Any]]:
        lines = self.pull(model)
        assert lines[-1] == {"status": "success"}, lines[-1]
        return lines

    def rows(self, part: str) -> list[dict[str, t.Any]]:
        """Return the rows of tags whose name contains `part`."""
        return [row for row in self.call("GET", "/api/tags").json()["models"] if part in row["name"]]

    def loaded(self, part: str) -> list[dict[str, t.Any]]:
        return [row for row in self.call("GET", "/api/ps").json()["models"] if part in row["name"]]

    def show(self, model: str, **more: t.Any) -> Reply:
        return self.call("POST", "/api/show", {"model": model, **more})

    def delete(self, model: str) -> Reply:
        return self.call("DELETE", "/api/delete", {"model": model})

    def copy(self, source: str, destination: str) -> Reply:
        return self.call("POST", "/api/copy", {"source": source, "destination": destination})

    def has_blob(self, digest: str) -> bool:
        return self.call("HEAD", f"/api/blobs/{digest}").status == 200

    def forget(self, part: str) -> None:
        """Delete every model whose name contains `part`."""
        for row in self.rows(part):
            self.call("POST", "/api/generate", {"model": row["name"], "keep_alive": 0})
            self.delete(row["name"])

    # -- the store: only where models_dir is known ---------------------------------------------------------------

    @property
    def store(self) -> pathlib.Path:
        assert self.models_dir is not None
        return self.models_dir

    def blob(self, digest: str) -> pathlib.Path:
        return self.store / "blobs" / digest.replace(":", "-")

    def manifest(self, host: str, namespace: str, model: str, tag: str) -> pathlib.Path:
        """Return the path of a tag's manifest, from 0.40 a link to a blob."""
        if self.generation == 1:
            return self.store / "manifests" / host / namespace / model / tag
        host = "ollama.com" if host == "registry.ollama.ai" else host.replace(":", "%3A")
        return self.store / "manifests-v2" / host / namespace / model / tag


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
