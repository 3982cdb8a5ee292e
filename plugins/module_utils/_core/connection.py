# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections for HTTP requests: time limits, proxies and TLS.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import io
import os
import re
import socket
import ssl
import time
import typing as t
from urllib.parse import SplitResult, quote, unquote

from . import proxy as proxy_module
from .address import bracketed
from .errors import OllamaError

USER_AGENT = "kaido.ollama"


class Limits:
    """The time limits of the socket of one request.

    :ivar timeout: the seconds that a single read or write may take.
    :ivar until: the deadline of the current part of the response on the monotonic clock.
    """

    def __init__(self, timeout: float, deadline: float) -> None:
        self.timeout = timeout
        self.deadline = deadline
        self.until = deadline

    def allow(self, seconds: float) -> None:
        """Set the seconds for the next part of the response."""
        self.until = min(self.deadline, time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds left for the next read.

        :raises TimeoutError: if there are none.
        """
        left = min(self.timeout, self.until - time.monotonic())
        if left <= 0:
            raise socket.timeout("the time is over")
        return left


class _TimedSocket:
    """A socket for http.client with `Limits`."""

    def __init__(self, raw: socket.socket, limits: Limits) -> None:
        self._raw = raw
        self._limits = limits

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(self._limits.timeout)
        self._raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._raw, self._limits), 1 << 16)

    def close(self) -> None:
        """Do nothing: the response owns the connection and closes it."""


class _SharedSocket(_TimedSocket):
    """A socket that stays open when the response that was read from it is closed."""

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._raw, self._limits, closes=False), 1 << 16)


class _Reader(io.RawIOBase):
    def __init__(self, raw: socket.socket, limits: Limits, *, closes: bool = True) -> None:
        super().__init__()
        self._raw = raw
        self._limits = limits
        self._closes = closes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        self._raw.settimeout(self._limits.left())
        return self._raw.recv_into(buffer)

    def close(self) -> None:
        if self._closes:
            self._raw.close()
        super().close()


def origin(url: SplitResult) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL."""
    return url.scheme, (url.hostname or "").lower(), url.port or (443 if url.scheme == "https" else 80)


def send(
    method: str,
    url: SplitResult,
    data: bytes | t.IO[bytes] | None,
    headers: t.Mapping[str, str],
    limits: Limits,
    ca_path: str | None,
    environment: t.Mapping[str, str],
) -> http.client.HTTPResponse:
    """Connect directly or through a proxy, and return the response when its headers have arrived.

    :raises OllamaError: ``server_unreachable``, ``tls_failed`` or ``url_invalid``.
    """
    proxy = proxy_module.proxy_for(url, environment)
    scheme, host, port = origin(url)
    target = _quoted((url.path or "/") + (f"?{url.query}" if url.query else ""))
    sent = {**headers, "Connection": "close"}
    if url.username is not None and "Authorization" not in sent:
        sent["Authorization"] = _basic(url)
    where = (_ascii(proxy.hostname or ""), proxy.port or 80) if proxy else (_ascii(host), port)
    name = bracketed(_ascii(host)) + ("" if port == (443 if scheme == "https" else 80) else f":{port}")
    limits.allow(limits.timeout)
    try:
        raw = socket.create_connection(where, timeout=limits.left())
    except OSError as exc:
        if not proxy:
            raise
        text = f"cannot reach the proxy {where[0]}:{where[1]} for {url.geturl()}: {exc}"
        raise OllamaError("server_unreachable", text, url=url.geturl()) from exc
    try:
        if proxy and scheme == "https":
            _tunnel(_SharedSocket(raw, limits), proxy, f"{bracketed(host)}:{port}", url)
        elif proxy:
            target = f"http://{name}{target}"
            if proxy.username is not None:
                sent["Proxy-Authorization"] = _basic(proxy)
        if scheme == "https":
            raw.settimeout(limits.left())
            context = _context(
                ca_path,
                proxy_module.variable(environment, "SSL_CERT_FILE"),
                proxy_module.variable(environment, "SSL_CERT_DIR"),
            )
            raw = context.wrap_socket(raw, server_hostname=_ascii(host))
        connection = http.client.HTTPConnection(bracketed(_ascii(host)), port)
        connection.sock = t.cast("socket.socket", _TimedSocket(raw, limits))
        sent["Host"] = name
        connection.request(method, target, body=data, headers=sent)
        # The first byte may take as long as any read, and so may the rest of the headers.
        limits.allow(2 * limits.timeout)
        return connection.getresponse()
    except BaseException:
        raw.close()
        raise


def _tunnel(connection: _SharedSocket, proxy: SplitResult, target: str, url: SplitResult) -> None:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: {USER_AGENT}"]
    if proxy.username is not None:
        lines.append(f"Proxy-Authorization: {_basic(proxy)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    answer = http.client.HTTPResponse(t.cast("socket.socket", connection), method="CONNECT")
    answer.begin()
    if answer.status != 200:
        raise OllamaError(
            "server_unreachable",
            f"the proxy {proxy.hostname}:{proxy.port or 80} refused {url.geturl()}: {answer.status} {answer.reason}",
            url=url.geturl(),
        )


def _quoted(target: str) -> str:
    """Return a request target in ASCII, in the form that browsers use."""
    return re.sub(r"[^!-~]", lambda match: quote(match.group().encode("utf-8", "replace")), target)


def _basic(url: SplitResult) -> str:
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode("utf-8", "replace")).decode()


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()


@functools.lru_cache(maxsize=8)
def _context(ca_path: str | None, cert_file: str, cert_dir: str) -> ssl.SSLContext:
    """Return a context that trusts ``ca_path`` only, or the authorities of the system and of Go's two variables."""
    if ca_path:
        if not os.path.exists(ca_path):
            raise OllamaError("tls_failed", f"ca_path: {ca_path} does not exist")
        folder = os.path.isdir(ca_path)
        return ssl.create_default_context(cafile=None if folder else ca_path, capath=ca_path if folder else None)
    context = ssl.create_default_context()
    if cert_file:
        if not os.path.isfile(cert_file):
            raise OllamaError("tls_failed", f"SSL_CERT_FILE: {cert_file} is not a file")
        context.load_verify_locations(cafile=cert_file)
    for directory in filter(os.path.isdir, cert_dir.split(":")):
        for name in sorted(os.listdir(directory)):
            # Go also skips files that are not certificates.
            with contextlib.suppress(OSError, ssl.SSLError):
                context.load_verify_locations(cafile=os.path.join(directory, name))
    return context
