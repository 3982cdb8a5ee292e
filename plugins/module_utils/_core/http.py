# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP for the modules: complete responses, and streams of bytes or lines. Only transport failures are exceptions.

Every answer ends: each part of it has a limit of bytes and of time, however slowly or endlessly a peer sends.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import io
import json as jsonlib
import os
import re
import socket
import ssl
import time
import typing as t
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from . import proxy as proxy_module
from . import text as text_module
from .errors import OllamaError

USER_AGENT = "kaido.ollama"
# Bytes of one line of a stream; those of a server are below one kilobyte.
_LINE_LIMIT = 1 << 20
_MAX_REDIRECTS = 5
# Bytes a second: slower than that is no download.
_SLOWEST = 4096
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")


@dataclass
class Response:
    """A complete response; header names are lower-case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> t.Any:
        """Parse the body; raises OllamaError ``bad_answer`` when it is not JSON."""
        try:
            return parse_json(self.body)
        except ValueError:
            raise OllamaError(
                "bad_answer",
                f"{self.url} answered {self.status} with something that is not JSON: {self.text(80)!r}",
                url=self.url,
            ) from None

    def text(self, limit: int = 200) -> str:
        """Return the beginning of the body, for messages."""
        return self.body[:limit].decode("utf-8", "replace").strip()


def parse_json(body: str | bytes) -> t.Any:
    """Return the value of a JSON text; raises ValueError, also for NaN, infinity and too many levels."""

    def refuse(constant: str) -> t.NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return jsonlib.loads(body, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


class _Limits:
    """The time limits of the socket of one request.

    :ivar timeout: seconds that a single read or write may take.
    :ivar until: when, on the monotonic clock, the present part of the answer has to be complete.
    """

    def __init__(self, timeout: float, deadline: float) -> None:
        self.timeout = timeout
        self.deadline = deadline
        self.until = deadline

    def allow(self, seconds: float) -> None:
        """Set the seconds for the next part of the response."""
        self.until = min(self.deadline, time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds left for the next read; raises TimeoutError where none are left."""
        left = min(self.timeout, self.until - time.monotonic())
        if left <= 0:
            raise socket.timeout("the time is over")
        return left


class _Socket:
    """A socket as http.client uses it, with `_Limits`."""

    def __init__(self, raw: socket.socket, limits: _Limits) -> None:
        self._raw = raw
        self._limits = limits

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(self._limits.timeout)
        self._raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._raw, self._limits), 1 << 16)

    def close(self) -> None:
        """Do nothing: the answer has the connection, and closes it with itself."""


class _Shared(_Socket):
    """A socket that stays open when the answer that was read from it is closed."""

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._raw, self._limits, closes=False), 1 << 16)


class _Reader(io.RawIOBase):
    def __init__(self, raw: socket.socket, limits: _Limits, *, closes: bool = True) -> None:
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


class Stream:
    """A response whose body is read in parts. Use it as a context manager."""

    def __init__(self, url: str, raw: http.client.HTTPResponse, limits: _Limits) -> None:
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
        """Return up to size bytes, ``b""`` at the end; raises ``stalled`` or ``connection_lost``."""
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
                    "bad_answer", f"{self.url} sent a line of more than {_LINE_LIMIT} bytes", url=self.url
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
    """Send a request and read the complete response; parameters and errors as in `open_stream`.

    :param timeout: seconds that any single write, and then the whole answer, may take.
    :param read_limit: bytes; a longer body raises ``bad_answer`` instead of filling the memory.
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
    follow: bool = True,
    tls_only: bool = False,
    environment: t.Mapping[str, str] | None = None,
    until: float = float("inf"),
) -> Stream:
    """Send a request and return the response as soon as its headers have arrived.

    :param headers: more headers; credentials among them go only to the host of the URL.
    :param timeout: seconds that any single read or write, the headers as a whole, and each line or piece may take.
    :param ca_path: a file or directory with the authorities to trust instead of the system's.
    :param follow: follow up to 5 redirects of a GET or HEAD: to the same host, never from https to http; to another
        host only over https and not to an address of loopback. Otherwise a redirect is an answer like others.
    :param tls_only: refuse every hop that is not https.
    :param environment: variables such as ``HTTPS_PROXY``, ``NO_PROXY`` and ``SSL_CERT_FILE``, in place of this
        process's own.
    :param until: when, on the monotonic clock, the whole answer has to be there.
    :raises OllamaError: ``unreachable``, ``tls``, ``stalled``, ``connection_lost``, ``redirect_refused``,
        ``invalid_proxy``, ``bad_answer`` or ``invalid_url``; never for an HTTP status.
    """
    all_headers = {"User-Agent": USER_AGENT, **(headers or {})}
    if json is not None:
        data = jsonlib.dumps(json).encode()
        all_headers.setdefault("Content-Type", "application/json")
    here = _parse_url(url)
    origin, hops = here, 0
    way = proxy_module.own_environment() if environment is None else environment
    _check_tls(tls_only, here)
    while True:
        limits = _Limits(timeout, until)
        shown = here.geturl()
        try:
            raw = _send(method, here, data, all_headers, limits, ca_path, way)
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
            raise OllamaError("redirect_refused", f"{url} leads to more than {_MAX_REDIRECTS} redirects", url=url)
        _check_tls(tls_only, target)
        if _origin(target) != _origin(origin):
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
    raise OllamaError("invalid_url", f"{url!r}: invalid URL; expected http://host:port or https://host:port", url=url)


def _origin(url: SplitResult) -> tuple[str, str, int]:
    return url.scheme, (url.hostname or "").lower(), url.port or (443 if url.scheme == "https" else 80)


def _check_tls(tls_only: bool, url: SplitResult) -> None:
    if tls_only and url.scheme != "https":
        raise OllamaError("redirect_refused", f"{url.geturl()} is not https, and every hop has to be", url=url.geturl())


def _redirect(here: SplitResult, location: str) -> SplitResult:
    """Return the target of a redirect, without credentials; raises ``redirect_refused`` for an invalid one."""
    url = here.geturl()

    def refused(why: str) -> OllamaError:
        return OllamaError("redirect_refused", f"{url} leads to {location[:200]!r}: {why}", url=url)

    try:
        # Location is latin-1 by the time http.client has read it.
        there = _parse_url(urljoin(url, location))
    except (OllamaError, ValueError):
        raise refused("only http and https URLs are followed") from None
    there = there._replace(netloc=there.netloc.rpartition("@")[2], fragment="")
    if not location:
        raise refused("it has no Location")
    if here.scheme == "https" and there.scheme != "https":
        raise refused("it leads from https to http")
    same_host = (there.hostname or "").lower() == (here.hostname or "").lower()
    same_port = _origin(here)[2] == _origin(there)[2] or here.scheme != there.scheme
    if not (same_host and same_port):
        if there.scheme != "https":
            raise refused("another host is only followed over https")
        if proxy_module.is_internal(there.hostname or "") and not proxy_module.is_internal(here.hostname or ""):
            raise refused("an address of this host or its link is not followed")
    return there


def _send(
    method: str,
    url: SplitResult,
    data: bytes | t.IO[bytes] | None,
    headers: t.Mapping[str, str],
    limits: _Limits,
    ca_path: str | None,
    environment: t.Mapping[str, str],
) -> http.client.HTTPResponse:
    """Connect, directly or through a proxy, and return the response when its headers have arrived."""
    proxy = proxy_module.proxy_for(url, environment)
    scheme, host, port = _origin(url)
    target = _quoted((url.path or "/") + (f"?{url.query}" if url.query else ""))
    sent = {**headers, "Connection": "close"}
    if url.username is not None and "Authorization" not in sent:
        sent["Authorization"] = _basic(url)
    where = (_ascii(proxy.hostname or ""), proxy.port or 80) if proxy else (_ascii(host), port)
    name = _bracketed(_ascii(host)) + ("" if port == (443 if scheme == "https" else 80) else f":{port}")
    limits.allow(limits.timeout)
    try:
        raw = socket.create_connection(where, timeout=limits.left())
    except OSError as exc:
        if not proxy:
            raise
        text = f"cannot reach the proxy {where[0]}:{where[1]} for {url.geturl()}: {exc}"
        raise OllamaError("unreachable", text, url=url.geturl()) from exc
    try:
        if proxy and scheme == "https":
            _tunnel(_Shared(raw, limits), proxy, f"{_bracketed(host)}:{port}", url)
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
        connection = http.client.HTTPConnection(_bracketed(_ascii(host)), port)
        connection.sock = t.cast("socket.socket", _Socket(raw, limits))
        sent["Host"] = name
        connection.request(method, target, body=data, headers=sent)
        # The wait for a first byte may be as long as any read; so may the rest of the headers.
        limits.allow(2 * limits.timeout)
        return connection.getresponse()
    except BaseException:
        raw.close()
        raise


def _tunnel(connection: _Shared, proxy: SplitResult, target: str, url: SplitResult) -> None:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: {USER_AGENT}"]
    if proxy.username is not None:
        lines.append(f"Proxy-Authorization: {_basic(proxy)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    answer = http.client.HTTPResponse(t.cast("socket.socket", connection), method="CONNECT")
    answer.begin()
    if answer.status != 200:
        raise OllamaError(
            "unreachable",
            f"the proxy {proxy.hostname}:{proxy.port or 80} refused {url.geturl()}: {answer.status} {answer.reason}",
            url=url.geturl(),
        )


def _quoted(target: str) -> str:
    """Return a request target in ASCII, as browsers write it."""
    return re.sub(r"[^!-~]", lambda match: quote(match.group().encode("utf-8", "replace")), target)


def _basic(url: SplitResult) -> str:
    pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode("utf-8", "replace")).decode()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()


@functools.lru_cache(maxsize=8)
def _context(ca_path: str | None, cert_file: str, cert_dir: str) -> ssl.SSLContext:
    """Return the trusted authorities: ca_path only, or those of the system and of Go's two variables."""
    if ca_path:
        if not os.path.exists(ca_path):
            raise OllamaError("tls", f"ca_path: {ca_path} does not exist")
        folder = os.path.isdir(ca_path)
        return ssl.create_default_context(cafile=None if folder else ca_path, capath=ca_path if folder else None)
    context = ssl.create_default_context()
    if cert_file:
        if not os.path.isfile(cert_file):
            raise OllamaError("tls", f"SSL_CERT_FILE: {cert_file} is not a file")
        context.load_verify_locations(cafile=cert_file)
    for directory in filter(os.path.isdir, cert_dir.split(":")):
        for name in sorted(os.listdir(directory)):
            # Go skips what is no certificate, too.
            with contextlib.suppress(OSError, ssl.SSLError):
                context.load_verify_locations(cafile=os.path.join(directory, name))
    return context


def _transport_error(url: str, exc: Exception, *, reading: bool) -> Exception:
    """Return exceptions of http.client, socket and ssl as failures with one of five codes."""
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return OllamaError("stalled", f"{url} did not answer, or too slowly", url=url)
    if isinstance(exc, (ssl.SSLError, ssl.CertificateError)):
        return OllamaError("tls", f"{url}: {exc}", url=url)
    if isinstance(exc, (http.client.HTTPException, OSError, ValueError)):
        if reading or isinstance(exc, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
            why = text_module.printable(str(exc)[:200]).strip() or type(exc).__name__
            return OllamaError("connection_lost", f"the connection to {url} broke: {why}", url=url)
        return OllamaError("unreachable", f"cannot reach {url}: {exc}", url=url)
    return exc
