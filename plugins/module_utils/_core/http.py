# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the modules: complete responses, and streams of bytes or lines. Only transport errors are exceptions.

Each part of a response has a limit of bytes and of time, so that every request ends.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import http.client
import json as jsonlib
import socket
import ssl
import time
import typing as t
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from . import proxy as proxy_module
from . import text as text_module
from .connection import USER_AGENT, Limits, origin, send
from .errors import OllamaError

# The maximum length of a line in bytes; lines of a server have less than one kilobyte.
_LINE_LIMIT = 1 << 20
_MAX_REDIRECTS = 5
# The minimum rate of a download, in bytes per second.
_SLOWEST = 4096
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")


@dataclass
class Response:
    """A complete response; header names are in lower case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> t.Any:
        """Parse the body.

        :raises OllamaError: ``response_invalid`` if it is not JSON.
        """
        try:
            return parse_json(self.body)
        except ValueError:
            raise OllamaError(
                "response_invalid",
                f"{self.url} answered {self.status} with content that is not JSON: {self.text(80)!r}",
                url=self.url,
            ) from None

    def text(self, limit: int = 200) -> str:
        """Return the beginning of the body for messages."""
        return self.body[:limit].decode("utf-8", "replace").strip()


def parse_json(body: str | bytes) -> t.Any:
    """Return the value of a JSON text.

    :raises ValueError: for invalid JSON, NaN, infinity, and values that are nested too deeply.
    """

    def refuse(constant: str) -> t.NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return jsonlib.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class Stream:
    """A response whose body is read in parts, as a context manager."""

    def __init__(self, url: str, raw: http.client.HTTPResponse, limits: Limits) -> None:
        self.url = url
        self.status: int = raw.status
        self.headers = {key.lower(): value for key, value in raw.headers.items()}
        self._raw = raw
        self._limits = limits

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self._raw.close()

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; ``b""`` at the end.

        :raises OllamaError: ``connection_stalled`` or ``connection_lost``.
        """
        self._limits.allow(self._limits.timeout + size / _SLOWEST)
        try:
            return self._raw.read(size)
        except Exception as exc:
            raise _transport_error(self.url, exc, reading=True) from exc

    def __iter__(self) -> t.Iterator[bytes]:
        while True:
            self._limits.allow(self._limits.timeout)
            try:
                line = self._raw.readline(_LINE_LIMIT + 1)
            except Exception as exc:
                raise _transport_error(self.url, exc, reading=True) from exc
            if len(line) > _LINE_LIMIT:
                raise OllamaError(
                    "response_invalid", f"{self.url} sent a line of more than {_LINE_LIMIT} bytes", url=self.url
                )
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
    follow: bool = True,
    tls_only: bool = False,
    environment: t.Mapping[str, str] | None = None,
    until: float = float("inf"),
) -> Response:
    """Send a request and read the complete response. Other parameters and errors are those of `open_stream`.

    :param timeout: the seconds that a single write, and then the complete response, may take.
    :param read_limit: the maximum number of bytes of the body; a longer one raises ``response_invalid``.
    """
    with open_stream(
        method,
        url,
        json=json,
        data=data,
        headers=headers,
        timeout=timeout,
        ca_path=ca_path,
        follow=follow,
        tls_only=tls_only,
        environment=environment,
        until=until,
    ) as stream:
        stream._limits.deadline = min(until, time.monotonic() + timeout)
        chunks: list[bytes] = []
        size = 0
        while True:
            chunk = stream.read(1 << 16)
            if not chunk:
                break
            size += len(chunk)
            if size > read_limit:
                raise OllamaError("response_invalid", f"{url} answered more than {read_limit} bytes", url=url)
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
    follow: bool = True,
    tls_only: bool = False,
    environment: t.Mapping[str, str] | None = None,
    until: float = float("inf"),
) -> Stream:
    """Send a request and return the response as soon as its headers have arrived.

    :param json: a JSON value as the body.
    :param data: bytes or an open file as the body.
    :param headers: additional headers; credentials in them are sent only to the host of the URL.
    :param timeout: the seconds that a single read or write, all headers, and each line or part may take.
    :param ca_path: a file or directory with the trusted authorities, instead of those of the system.
    :param follow: whether up to 5 redirects of a GET or HEAD are followed: to the same host, but never from https to
        http; to another host only over https and not to a loopback address. Otherwise, a redirect is returned.
    :param tls_only: whether URLs and redirects without https are refused.
    :param environment: variables such as ``HTTPS_PROXY``, ``NO_PROXY`` and ``SSL_CERT_FILE``, instead of those of this
        process.
    :param until: the deadline of the complete response on the monotonic clock.
    :raises OllamaError: ``server_unreachable``, ``tls_failed``, ``connection_stalled``, ``connection_lost``,
        ``redirect_refused``, ``url_invalid`` or ``response_invalid``; never for an HTTP status.
    """
    all_headers = {"User-Agent": USER_AGENT, **(headers or {})}
    if json is not None:
        data = jsonlib.dumps(json).encode()
        all_headers.setdefault("Content-Type", "application/json")
    here = _parse_url(url)
    first, hops = here, 0
    way = proxy_module.own_environment() if environment is None else environment
    _check_tls(tls_only, here)
    while True:
        limits = Limits(timeout, until)
        shown = here.geturl()
        try:
            raw = send(method, here, data, all_headers, limits, ca_path, way)
        except OllamaError:
            raise
        except Exception as exc:
            raise _transport_error(shown, exc, reading=False) from exc
        stream = Stream(shown, raw, limits)
        if not follow or stream.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
            return stream
        with stream:
            target = _redirect(here, stream.headers.get("location", ""))
        hops += 1
        if hops > _MAX_REDIRECTS:
            raise OllamaError("redirect_refused", f"{url} redirects more than {_MAX_REDIRECTS} times", url=url)
        _check_tls(tls_only, target)
        if origin(target) != origin(first):
            all_headers = {key: value for key, value in all_headers.items() if key.lower() not in _SECRET_HEADERS}
        here = target


def _parse_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            parts.hostname.encode("idna" if not parts.hostname.isascii() else "ascii")
            if not any(character.isspace() or character < " " for character in url):
                return parts
    except ValueError:
        pass
    raise OllamaError("url_invalid", f"{url!r}: invalid URL; expected http://host:port or https://host:port", url=url)


def _check_tls(tls_only: bool, url: SplitResult) -> None:
    if tls_only and url.scheme != "https":
        raise OllamaError(
            "redirect_refused",
            f"{url.geturl()} does not use https; expected https for every redirect",
            url=url.geturl(),
        )


def _redirect(here: SplitResult, location: str) -> SplitResult:
    """Return the target of a redirect without credentials.

    :raises OllamaError: ``redirect_refused``.
    """
    url = here.geturl()

    def refused(why: str) -> OllamaError:
        return OllamaError("redirect_refused", f"{url} leads to {location[:200]!r}: {why}", url=url)

    try:
        # http.client decodes Location as Latin-1.
        there = _parse_url(urljoin(url, location))
    except (OllamaError, ValueError):
        raise refused("only http and https URLs are followed") from None
    there = there._replace(netloc=there.netloc.rpartition("@")[2], fragment="")
    if not location:
        raise refused("it has no Location")
    if here.scheme == "https" and there.scheme != "https":
        raise refused("it leads from https to http")
    same_host = (there.hostname or "").lower() == (here.hostname or "").lower()
    same_port = origin(here)[2] == origin(there)[2] or here.scheme != there.scheme
    if not (same_host and same_port):
        if there.scheme != "https":
            raise refused("redirects to another host are followed only over https")
        if proxy_module.is_internal(there.hostname or "") and not proxy_module.is_internal(here.hostname or ""):
            raise refused("redirects to an address of this host or its link are not followed")
    return there


def _transport_error(url: str, exc: Exception, *, reading: bool) -> Exception:
    """Return an exception of http.client, socket or ssl as an error with one of five codes."""
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return OllamaError("connection_stalled", f"{url} did not answer, or too slowly", url=url)
    if isinstance(exc, (ssl.SSLError, ssl.CertificateError)):
        return OllamaError("tls_failed", f"{url}: {exc}", url=url)
    if isinstance(exc, (http.client.HTTPException, OSError, ValueError)):
        if reading or isinstance(exc, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
            why = text_module.printable(str(exc)[:200]).strip() or type(exc).__name__
            return OllamaError("connection_lost", f"the connection to {url} broke: {why}", url=url)
        return OllamaError("server_unreachable", f"cannot reach {url}: {exc}", url=url)
    return exc
