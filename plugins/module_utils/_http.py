# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the modules: whole answers, and streams of bytes or lines. Statuses are data, transport failures raise.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import http.client
import ipaddress
import json as jsonlib
import socket
import ssl
import typing as t
from dataclasses import dataclass
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ._errors import OllamaError

try:
    from ansible.module_utils.urls import open_url
except ImportError:
    # The monitoring program runs without Ansible. It needs nothing but plain HTTP.
    open_url = None  # type: ignore[assignment]

USER_AGENT = "kaido.ollama"


@dataclass
class Response:
    """A whole answer; header names are lower-case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> t.Any:
        """Parse the body; raises OllamaError ``bad_answer`` when it is not JSON."""
        try:
            return jsonlib.loads(self.body)
        except ValueError:
            raise OllamaError(
                "bad_answer",
                f"{self.url} answered {self.status} with something that is not JSON: {self.text(80)!r}",
                url=self.url,
            ) from None

    def text(self, limit: int = 200) -> str:
        """Return the beginning of the body, for messages."""
        return self.body[:limit].decode("utf-8", "replace").strip()


class Stream:
    """An answer whose body is read piece by piece. Use it as a context manager."""

    def __init__(self, url: str, raw: t.Any) -> None:
        self.url = url
        self.status: int = raw.status if hasattr(raw, "status") else raw.code
        self.headers = {key.lower(): value for key, value in raw.headers.items()}
        self._raw = raw

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self._raw.close()

    def read(self, size: int) -> bytes:
        """Return up to size bytes, ``b""`` at the end; raises ``stalled`` or ``connection_lost``."""
        try:
            return self._raw.read(size)
        except Exception as exc:
            raise _transport_error(self.url, exc, reading=True) from exc

    def __iter__(self) -> t.Iterator[bytes]:
        while True:
            try:
                line = self._raw.readline()
            except Exception as exc:
                raise _transport_error(self.url, exc, reading=True) from exc
            if not line:
                return
            yield line


def request(
    method: str,
    url: str,
    *,
    json: t.Any = None,
    data: bytes | t.IO[bytes] | None = None,
    headers: t.Mapping[str, str] | None = None,
    timeout: float = 30.0,
    ca_path: str | None = None,
    read_limit: int = 16 << 20,
) -> Response:
    """Send a request and read the whole answer.

    :param timeout: seconds that any single read or write may take.
    :param read_limit: bytes; a longer body raises ``bad_answer`` instead of filling the memory.
    :raises OllamaError: ``unreachable``, ``tls``, ``stalled`` or ``connection_lost``; never for an HTTP status.
    """
    with open_stream(method, url, json=json, data=data, headers=headers, timeout=timeout, ca_path=ca_path) as stream:
        chunks: list[bytes] = []
        size = 0
        while True:
            chunk = stream.read(1 << 16)
            if not chunk:
                break
            size += len(chunk)
            if size > read_limit:
                raise OllamaError("bad_answer", f"{url} answered more than {read_limit} bytes", url=url)
            chunks.append(chunk)
        return Response(url, stream.status, stream.headers, b"".join(chunks))


def open_stream(
    method: str,
    url: str,
    *,
    json: t.Any = None,
    data: bytes | t.IO[bytes] | None = None,
    headers: t.Mapping[str, str] | None = None,
    timeout: float = 30.0,
    ca_path: str | None = None,
) -> Stream:
    """Send a request and return its answer as soon as the headers are there; errors as in `request`."""
    all_headers = dict(headers or {})
    if json is not None:
        data = jsonlib.dumps(json).encode()
        all_headers.setdefault("Content-Type", "application/json")
    try:
        if url.startswith("http:") and (open_url is None or _is_loopback(url)):
            return Stream(url, _open_local(method, url, data, all_headers, timeout))
        raw = open_url(
            url,
            method=method,
            data=data,
            headers=all_headers,
            timeout=timeout,
            ca_path=ca_path,
            http_agent=USER_AGENT,
            use_proxy=not _is_loopback(url),
            follow_redirects="all",
        )
    except HTTPError as exc:
        raw = exc
    except Exception as exc:
        raise _transport_error(url, exc, reading=False) from exc
    return Stream(url, raw)


def _open_local(
    method: str, url: str, data: bytes | t.IO[bytes] | None, headers: t.Mapping[str, str], timeout: float
) -> http.client.HTTPResponse:
    """Speak plain HTTP to this host without open_url, which loads the system's certificates for every request.

    That takes longer than anything else in a call that has nothing to do. Redirects are data here, too.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # The answer then owns the connection, and closes it with itself.
    closing = {"User-Agent": USER_AGENT, **headers, "Connection": "close"}
    try:
        connection.request(method, target, body=data, headers=closing)
        return connection.getresponse()
    except Exception:
        connection.close()
        raise


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _transport_error(url: str, exc: Exception, *, reading: bool) -> Exception:
    """Turn what urllib, http.client, socket and ssl raise into one of four codes."""
    cause: t.Any = exc.reason if isinstance(exc, URLError) and isinstance(exc.reason, Exception) else exc
    if isinstance(cause, (socket.timeout, TimeoutError)):
        return OllamaError("stalled", f"{url} sent nothing for too long", url=url)
    if isinstance(cause, (ssl.SSLError, ssl.CertificateError)) or "SSL" in type(exc).__name__:
        return OllamaError("tls", f"{url}: {cause}", url=url)
    if isinstance(cause, (http.client.HTTPException, OSError, ValueError)):
        if reading or isinstance(cause, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
            return OllamaError(
                "connection_lost",
                f"the connection to {url} broke: {str(cause).strip() or type(cause).__name__}",
                url=url,
            )
        return OllamaError("unreachable", f"cannot reach {url}: {cause}", url=url)
    if type(exc).__module__.startswith("ansible."):
        return OllamaError("unreachable", f"cannot reach {url}: {exc}", url=url)
    return exc
