# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP client of a pull: follows redirects by the server's rules and words failures as Go does."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import platform
import socket
import ssl
import urllib.parse

_TRUSTED = ("ollama.com", "ollama.ai", "hf.co", "huggingface.co")
_REDIRECTS = (301, 302, 303, 307, 308)


class WebError(Exception):
    """The text is that of the real server."""


class TimedOut(WebError):
    """A timeout."""


class Canceled(Exception):
    """The request was cancelled."""


def _trusted(host: str) -> bool:
    return any(host == known or host.endswith("." + known) for known in _TRUSTED)


def private_target(host: str) -> bool:
    """Return whether the name resolves to a loopback, link-local or private address."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    addresses = [ipaddress.ip_address(str(address).split("%", maxsplit=1)[0]) for address in found]
    return any(a.is_private or a.is_loopback or a.is_link_local or a.is_unspecified for a in addresses)


def resolver() -> str:
    try:
        with open("/etc/resolv.conf", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("nameserver"):
                    return f" on {line.split()[1]}:53"
    except (OSError, IndexError):
        pass
    return ""


def _answers_http(host: str, port: int) -> bool:
    """Go examines the first bytes of the response to a handshake. Python's ssl hides them, so they are kept."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as plain:
        plain.sendall(b"\x16\x03\x01\x00\x01\x01\r\n")
        return plain.recv(5, socket.MSG_WAITALL) == b"HTTP/"
    return False


def _cause(error: Exception, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}{resolver()}: no such host"
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {_address(host, port)}: connect: connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
            if _answers_http(host, port):
                return "http: server gave HTTP response to HTTPS client"
            return "tls: first record does not look like a TLS handshake"
        return "EOF" if error.reason is None or "EOF" in error.reason else f"remote error: tls: {error.reason}"
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    if isinstance(error, (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionError)):
        return "EOF"
    if isinstance(error, OSError) and error.strerror:
        return f"dial tcp {_address(host, port)}: connect: {error.strerror.lower()}"
    return f"malformed HTTP response: {error}"


def _address(host: str, port: int) -> str:
    try:
        found = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        found = host
    return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"


class Reply:
    """A response whose body is still on the wire; `url` is where the redirects ended."""

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._connection = connection
        self._socket = connection.sock  # getresponse() drops it when the server is going to close
        self._response = response = connection.getresponse()
        self.url = url
        self.status = response.status
        self.headers = response.headers

    def read(self, amount: int = -1) -> bytes:
        """Return bytes as they arrive, b'' at the end; raise IncompleteRead if fewer arrived than announced."""
        return self._response.read() if amount < 0 else self._response.read1(amount)

    @property
    def missing(self) -> int:
        """Return the number of announced bytes that have not arrived."""
        return self._response.length or 0

    def abort(self) -> None:
        """Make a waiting read return; for other threads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def wait_for_ever(self) -> None:
        """Disable the timeout: the caller detects stalls."""
        self._socket.settimeout(None)

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Client:
    """The client of one server: its version determines the user agent and the redirects that it follows."""

    def __init__(self, version: str, ca_file: str = "", timeout: float = 30.0) -> None:
        self.version = tuple(int(part) for part in version.split("-")[0].split(".")[:3])
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        self.user_agent = f"ollama/{version} ({machine} linux) Go/go1.26.0"
        self._ca_file = ca_file
        self._timeout = timeout

    def _once(self, method: str, url: str, headers: dict[str, str]) -> Reply:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise WebError(f'{method.capitalize()} "{url}": invalid port') from None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self._ca_file or None)
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, headers=headers)
            return Reply(connection, url)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            cause = _cause(error, host, port)
            kind = TimedOut if isinstance(error, TimeoutError) else WebError
            raise kind(f'{method.capitalize()} "{url}": {cause}') from None

    def request(self, method: str, url: str, insecure: bool, accept: str = "", direct: bool = False) -> Reply:
        """One registry request, redirects followed. `direct` stops at the first other host, as blob look-ups do."""
        origin = urllib.parse.urlsplit(url).hostname or ""
        headers = {"User-Agent": self.user_agent, "Accept-Encoding": "gzip"}
        if accept:
            headers["Accept"] = accept
        for _hop in range(10):
            reply = self._once(method, url, headers)
            location = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or not location:
                return reply
            target = urllib.parse.urljoin(url, location)
            host = urllib.parse.urlsplit(target).hostname or ""
            if host != origin:
                if direct:
                    return reply
                self._check_redirect(method, target, origin, host, insecure)
            reply.close()
            url = target
        # Go names the Location as it was sent.
        limit = "maximum redirects exceeded (10) for directURL" if direct else "stopped after 10 redirects"
        raise WebError(f'{method.capitalize()} "{location}": {limit}')

    def _check_redirect(self, method: str, url: str, origin: str, host: str, insecure: bool) -> None:
        if self.version < (0, 34, 2) or (self.version >= (0, 34, 3) and insecure):
            return
        if self.version >= (0, 34, 3) and _trusted(origin) and _trusted(host):
            return
        raise WebError(f'{method.capitalize()} "{url}": blocked redirect to a different host')

    def check_target(self, origin_url: str, url: str, insecure: bool) -> None:
        """Since 0.35 a blob may not be fetched from a private address of another host."""
        origin = urllib.parse.urlsplit(origin_url).hostname or ""
        host = urllib.parse.urlsplit(url).hostname or ""
        if self.version >= (0, 35, 0) and host != origin and not insecure and private_target(host):
            raise WebError("redirect target not allowed")

    def get_range(self, url: str, first: int, last: int) -> Reply:
        """A part of a blob, without the registry's user agent or credentials; the status is not looked at."""
        headers = {"User-Agent": "Go-http-client/1.1", "Range": f"bytes={first}-{last}"}
        for _hop in range(10):
            reply = self._once("GET", url, headers)
            location = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or not location:
                reply.wait_for_ever()
                return reply
            reply.close()
            url = urllib.parse.urljoin(url, location)
        raise WebError(f'Get "{location}": stopped after 10 redirects')
