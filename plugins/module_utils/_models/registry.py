# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The offer of a registry for a tag: digest and sizes. A look-up transfers about one kilobyte.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import typing as t
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from .._core.errors import OllamaError
from .._core.http import Response, parse_json, request
from .._core.name import DEFAULT_HOST, Name
from .._store.layout import MANIFEST, MANIFEST_LIST, Manifest, Variant, parse_manifest

# Errors that are not evidence about the model, only about the connection between this process and the registry. The
# server may have another route, and signs its requests.
INDECISIVE_CODES = {
    "registry_unreachable": "not reachable",
    "registry_refused": "access refused",
    "tls_failed": "TLS connection failed",
}
# Statuses of temporary failures, the pauses between attempts, and the longest pause, in seconds.
_PASSING = (408, 425, 429, 502, 503, 504)
_PAUSES = (1.0, 3.0)
_LONGEST_PAUSE = 15.0
# The hint for a host; the lock file is written by the controller.
PROXY_HINT = "set ollama_settings.https_proxy (HTTPS_PROXY of registry_environment) if a proxy is required"

sleep = time.sleep


@dataclass(frozen=True)
class Source:
    """A registry: the host part of the names of its models, and whether it uses plain HTTP."""

    host: str
    insecure: bool = False

    @property
    def url(self) -> str:
        """The base URL of the registry."""
        return f"{'http' if self.insecure else 'https'}://{self.host}"

    def __str__(self) -> str:
        return self.host if self.host == DEFAULT_HOST else self.url


def parse_mirror(text: t.Any, *, what: str = "mirrors") -> Source:
    """Return the source with a URL such as ``http://hecate.lan:11480``.

    :param what: the name of the option in messages.
    :raises OllamaError: ``url_invalid``.
    """
    try:
        url = urlsplit(str(text))
        valid = (
            url.scheme in ("http", "https")
            and url.hostname
            and (url.port is None or url.port > 0)
            and not (url.path.strip("/") or url.query or url.fragment or "@" in url.netloc)
        )
    except ValueError:
        valid = False
    if not valid:
        raise OllamaError(
            "url_invalid", f"{what}: invalid value {text!r}; expected http://host[:port] or https://host[:port]"
        )
    # Without a port, the server also uses port 443, or 80 with plain HTTP.
    return Source(url.netloc, insecure=url.scheme == "http")


@dataclass(frozen=True)
class Offer:
    """The current content of a tag in a registry.

    :ivar digest: the digest of the manifest of the tag, which may be a list.
    :ivar chosen: the manifest that a server would run.
    :ivar variants: the digests of all variants, the chosen one first; empty if the manifest is not a list.
    :ivar originals: the digests of the variants that older servers can run and that newer servers convert.
    :ivar tag: the tag to pull, if it is not that of the model.
    """

    digest: str
    chosen: Manifest
    variants: tuple[str, ...] = ()
    originals: tuple[str, ...] = ()
    tag: str | None = None

    def satisfies(self, pin: str) -> bool:
        """Return whether a pull of this offer satisfies a pin."""
        return pin in (self.digest, self.chosen.digest)

    @property
    def blobs(self) -> dict[str, int]:
        """The sizes of all blobs of a pull in bytes, by digest."""
        return {blob.digest: blob.size for blob in self.chosen.blobs}


def look_up(
    source: Source,
    name: Name,
    *,
    lists: bool,
    timeout: float = 30.0,
    environment: t.Mapping[str, str] | None = None,
    until: float = float("inf"),
) -> Offer:
    """Query a registry for the manifest of a tag, as a server does.

    :param lists: whether lists of variants are accepted, as servers of 0.40 and newer do.
    :param timeout: seconds for one answer; there are up to two requests with up to three attempts each.
    :param environment: environment variables for the request, instead of those of this process.
    :param until: the deadline on the monotonic clock.
    :raises OllamaError: ``tag_missing``, ``tag_refused`` if the registry refuses only this tag,
        ``registry_refused``, ``registry_unreachable``, ``registry_unsuitable``, ``manifest_invalid``, ``tls_failed`` or
        ``deadline_exceeded``.
    """
    ask = _Question(f"{name} at {source}", timeout, environment, until)
    base = f"{source.url}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    body = ask.get(url, ", ".join([MANIFEST_LIST] * lists + [MANIFEST]))
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    try:
        parsed = _parse(body)
        if isinstance(parsed, Manifest):
            return Offer(digest, parsed)
        # A variant is fetched as a blob, so its digest is verified.
        child_body = ask.get(f"{base}/blobs/{parsed[0].digest}", "*/*")
        child = _parse(child_body)
        if not isinstance(child, Manifest) or child.digest != parsed[0].digest:
            raise OllamaError("manifest_invalid", f"the variant {parsed[0].digest[:19]} does not match its digest")
    except OllamaError as exc:
        text = exc.message if exc.message.startswith(ask.what) else f"{ask.what}: {exc.message}"
        raise OllamaError(exc.code, text, url=url) from None
    originals = tuple(variant.digest for variant in parsed if variant.runner == "ggml")
    return Offer(digest, child, tuple(variant.digest for variant in parsed), originals)


def _parse(body: bytes) -> Manifest | tuple[Variant, ...]:
    try:
        return parse_manifest(body)
    except (OverflowError, RecursionError) as exc:
        raise OllamaError("manifest_invalid", f"unreadable manifest: {exc}") from None


@dataclass(frozen=True)
class _Question:
    """Requests about one tag at one registry."""

    what: str
    timeout: float
    environment: t.Mapping[str, str] | None
    until: float

    def get(self, url: str, accept: str) -> bytes:
        """Return the body of a response with status 200, after up to three attempts."""
        for pause in (*_PAUSES, None):
            try:
                answer = self._request(url, accept)
            except OllamaError as exc:
                if exc.code != "connection_lost" or pause is None or not self._wait(pause):
                    raise self._unreachable(exc, url) from None
                continue
            if answer.status == 200:
                return self._body(answer, url)
            if answer.status not in _PASSING or pause is None or not self._wait(_asked_pause(answer, pause)):
                raise self._refused(answer, url)
        raise AssertionError("unreachable")

    def _request(self, url: str, accept: str) -> Response:
        return request(
            "GET",
            url,
            headers={"Accept": accept},
            timeout=self.timeout,
            read_limit=4 << 20,
            environment=self.environment,
            until=self.until,
        )

    def _wait(self, seconds: float) -> bool:
        """Wait before another attempt; return false if the deadline is earlier."""
        if time.monotonic() + seconds >= self.until:
            return False
        sleep(seconds)
        return True

    def _body(self, answer: Response, url: str) -> bytes:
        html = answer.headers.get("content-type", "").startswith("text/html")
        if html and answer.body.lstrip().startswith(b"<"):
            page = f"{self.what}: the answer is a web page, as in a network that requires a login"
            raise OllamaError("registry_unreachable", f"{page}; {PROXY_HINT}", url=url)
        return answer.body

    def _unreachable(self, exc: OllamaError, url: str) -> OllamaError:
        if exc.code in ("redirect_refused", "response_invalid"):
            return OllamaError("registry_unsuitable", f"{self.what}: {exc.message}", url=url)
        if time.monotonic() >= self.until:
            return OllamaError("deadline_exceeded", f"{self.what}: the deadline has passed: {exc.message}", url=url)
        if exc.code == "tls_failed":
            hint = "set ollama_settings.ssl_cert_file (SSL_CERT_FILE of registry_environment) for a private authority"
            return OllamaError("tls_failed", f"{self.what}: {exc.message}; {hint}", url=url)
        text = f"{self.what}: {exc.message}; {PROXY_HINT}"
        return OllamaError("registry_unreachable", text, url=url)

    def _refused(self, answer: Response, url: str) -> OllamaError:
        status, sentence = answer.status, _sentence(answer)
        if status == 404:
            return OllamaError("tag_missing", f"{self.what}: the registry has no such model or tag", url=url)
        if status in (401, 403, 407):
            return OllamaError("registry_refused", f"{self.what}: the registry answered {status}{sentence}", url=url)
        if 400 <= status < 500 and status not in _PASSING:
            return OllamaError("tag_refused", f"{self.what}: the registry refuses it ({status}){sentence}", url=url)
        return OllamaError("registry_unreachable", f"{self.what}: the registry answered {status}{sentence}", url=url)


def _sentence(answer: Response) -> str:
    """Return the error message in an answer of a registry, in one of the known formats."""
    text = answer.text(2000)
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
        data = parse_json(text)
        found = data.get("error") or data.get("message") or data["errors"][0]["message"]
        text = found if isinstance(found, str) else text
    return f": {text[:400]}" if text and not text.lstrip().startswith("<") else ""


def _asked_pause(answer: Response, pause: float) -> float:
    """Return the seconds for which a registry requests to wait, within limits."""
    asked = answer.headers.get("retry-after", "").strip()
    seconds = float(asked) if re.match(r"\d{1,9}\Z", asked) else 0.0
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        # A date according to the clock of the registry.
        now = answer.headers.get("date")
        until = parsedate_to_datetime(asked).timestamp()
        seconds = until - (parsedate_to_datetime(now).timestamp() if now else time.time())
    return min(max(pause, seconds), _LONGEST_PAUSE)
