# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of an Ollama server, one method a route.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import json
import re
import time
import typing as t

from ._errors import OllamaError
from ._http import Response, open_stream, request
from ._name import Name

Events = t.Generator[t.Dict[str, t.Any], None, None]

DEFAULT_URL = "http://127.0.0.1:11434"

# What the server's own words mean. The first match counts.
_STREAM_ERRORS: tuple[tuple[str, str], ...] = (
    (r"file does not exist|manifest unknown|pull model manifest: 404", "tag_missing"),
    (r"no space left on device|disk quota exceeded|not enough space", "disk_full"),
    (r"permission denied|read-only file system", "store_unwritable"),
    (r"digest mismatch", "digest_mismatch"),
    (r"requires a newer version|requires ollama version|(^|: )412", "server_too_old"),
    (r"no compatible manifest found", "no_variant"),
    (r"requires MLX support", "no_variant"),
    (r"realm host|unauthorized|access denied|(^|: )40[13]", "registry_refused"),
    (
        r"no Location header|blocked redirect|redirect target not allowed|stopped after \d+ redirects"
        r"|unexpected status code",
        "registry_unsuitable",
    ),
    # The first where the registry's answer begins with HTTP/, else the second.
    (r"HTTP response to HTTPS client|first record does not look like a TLS handshake", "registry_is_http"),
    (r"certificate|tls: |x509", "tls"),
    # One part of a blob gave up, or an earlier pull of it is still being cancelled: what was fetched stays.
    (r"context canceled", "connection_lost"),
    (r"pull model manifest: .*(invalid character|unexpected end of JSON|cannot unmarshal)", "bad_manifest"),
    (
        r"connection refused|no such host|i/o timeout|deadline exceeded|EOF|connection reset|broken pipe|max retries"
        r"|network is unreachable|no route to host|stalled|(^|: )(5\d\d|429)",
        "registry_unreachable",
    ),
)


def classify(text: str) -> str:
    """Return the stable code of an error text of the server."""
    for pattern, code in _STREAM_ERRORS:
        if re.search(pattern, text, re.IGNORECASE):
            return code
    return "server_error"


class Client:
    """A server under a base URL.

    :param base_url: for example ``http://127.0.0.1:11434``.
    :param timeout: seconds that a single read of an ordinary answer may take.
    """

    def __init__(self, base_url: str = DEFAULT_URL, *, timeout: float = 30.0, ca_path: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.ca_path = ca_path

    def _call(
        self, method: str, path: str, body: t.Any = None, *, ok: t.Container[int] = (200,), timeout: float | None = None
    ) -> Response:
        answer = request(
            method,
            self.base_url + path,
            json=body,
            timeout=timeout or self.timeout,
            ca_path=self.ca_path,
            read_limit=64 << 20,
        )
        if answer.status not in ok:
            raise self._refused(method, path, answer.status, answer.text(2000))
        return answer

    def _refused(self, method: str, path: str, status: int, text: str) -> OllamaError:
        try:
            text = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            text = text or "no text"
        code = "not_found" if status == 404 else classify(text)
        return OllamaError(
            code, f"{method} {path}: the server answered {status}: {text}", status=status, url=self.base_url + path
        )

    def version(self) -> str:
        """Return the server's version, without a leading v."""
        return str(self._call("GET", "/api/version").json()["version"])

    def wait(self, seconds: float) -> str:
        """Return the version as soon as the server answers; raises ``unreachable`` after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self.version()
            except OllamaError as exc:
                if time.monotonic() >= end:
                    raise OllamaError(
                        "unreachable",
                        f"no Ollama server answers at {self.base_url} after {seconds:g} s: {exc.message}",
                        url=self.base_url,
                    ) from None
            time.sleep(0.2)

    def tags(self) -> list[dict[str, t.Any]]:
        """Return the installed models as the server lists them."""
        return list(self._call("GET", "/api/tags").json().get("models") or [])

    def running(self) -> list[dict[str, t.Any]]:
        """Return the loaded models."""
        return list(self._call("GET", "/api/ps").json().get("models") or [])

    def show(self, name: Name) -> dict[str, t.Any] | None:
        """Return a model's details, or None where the server knows no such model."""
        answer = self._call("POST", "/api/show", {"model": str(name)}, ok=(200, 404))
        return dict(answer.json()) if answer.status == 200 else None

    def copy(self, source: Name, destination: Name) -> None:
        """Give a model a second name; the blobs are shared."""
        self._call("POST", "/api/copy", {"source": str(source), "destination": str(destination)})

    def delete(self, name: Name) -> bool:
        """Remove a name and the blobs that only it needs; False where it was not there."""
        return self._call("DELETE", "/api/delete", {"model": str(name)}, ok=(200, 404)).status == 200

    def generate(self, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        """Run ``/api/generate`` without streaming."""
        return dict(self._call("POST", "/api/generate", dict(body, stream=False), timeout=timeout).json())

    def embed(self, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        """Run ``/api/embed``."""
        return dict(self._call("POST", "/api/embed", body, timeout=timeout).json())

    def pull(self, name: Name, *, insecure: bool = False, timeout: float = 60.0) -> Events:
        """Yield the progress of a pull to its ``success``; leaving the iterator cancels the download on the server.

        :param insecure: speak plain HTTP to the registry (that is what Ollama means by it).
        :param timeout: seconds without any line.
        :raises OllamaError: also for an error inside the stream, and for a stream that ends without ``success``.
        """
        return self._stream("/api/pull", {"model": str(name), "insecure": insecure}, timeout=timeout)

    def create(self, body: dict[str, t.Any], *, timeout: float = 600.0) -> Events:
        """Yield the progress of ``/api/create`` to its ``success``; errors as in `pull`."""
        return self._stream("/api/create", body, timeout=timeout)

    def _stream(self, path: str, body: dict[str, t.Any], *, timeout: float) -> Events:
        url = self.base_url + path
        with open_stream("POST", url, json=body, timeout=timeout, ca_path=self.ca_path) as stream:
            if stream.status != 200:
                raise self._refused("POST", path, stream.status, stream.read(4096).decode("utf-8", "replace"))
            status = ""
            for line in stream:
                if not line.strip():
                    continue
                try:
                    event = json.loads(line)
                    if not isinstance(event, dict):
                        raise ValueError
                except ValueError:
                    raise OllamaError(
                        "connection_lost", f"{url}: the stream broke off inside a line", url=url
                    ) from None
                if event.get("error"):
                    text = str(event["error"])
                    raise OllamaError(classify(text), f"the server said: {text}", url=url)
                status = str(event.get("status", ""))
                yield event
            if status != "success":
                raise OllamaError(
                    "connection_lost", f"{url}: the stream ended without success, after {status!r}", url=url
                )

    def has_blob(self, digest: str) -> bool:
        """Return whether a file of that digest's name exists on the server; its content is not checked."""
        return self._call("HEAD", f"/api/blobs/{digest}", ok=(200, 404)).status == 200

    def upload_blob(self, digest: str, file: t.IO[bytes], size: int, *, timeout: float = 600.0) -> None:
        """Send a file's bytes to the store; raises ``digest_mismatch`` where they are not what the digest says."""
        url = f"{self.base_url}/api/blobs/{digest}"
        answer = request(
            "POST",
            url,
            data=file,
            headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            timeout=timeout,
            ca_path=self.ca_path,
        )
        if answer.status not in (200, 201):
            raise self._refused("POST", f"/api/blobs/{digest}", answer.status, answer.text(2000))


def newer_than(version: str, floor: tuple[int, ...]) -> bool:
    """Return whether a version such as ``0.40.2-rc1`` is at least the floor; unknown forms count as newest."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", version)
    if not numbers:
        return True
    return tuple(int(part) for part in numbers.group(1).split(".")) >= floor
