# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry offers under a tag: digest and sizes, for about one kilobyte of traffic.

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

# A look-up that fails so is no statement about the model, only about the connection of this process to the registry.
# The server may have another route, and signs its requests.
INDECISIVE_CODES = ("registry_unreachable", "registry_refused", "tls_failed")
# Statuses that are over a moment later, and how often and how long (seconds) to wait for that.
_PASSING = (408, 425, 429, 502, 503, 504)
_PAUSES = (1.0, 3.0)
_LONGEST_PAUSE = 15.0
# Of a host; the lock is written by the controller.
PROXY_HINT = "set ollama_settings.https_proxy (HTTPS_PROXY of registry_environment) where a proxy is needed"

sleep = time.sleep


@dataclass(frozen=True)
class Source:
    """A registry to pull from: the host part of a model's name there, and whether it uses plain HTTP."""

    host: str
    insecure: bool = False

    @property
    def url(self) -> str:
        """The registry's base URL."""
        return f"{'http' if self.insecure else 'https'}://{self.host}"

    def __str__(self) -> str:
        return self.host if self.host == DEFAULT_HOST else self.url


def parse_mirror(text: t.Any, *, what: str = "mirrors") -> Source:
    """Return the source that a URL such as ``http://hecate.lan:11480`` names; raises ``url_invalid``."""
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
    # Without a port a name's host part would mean 443, or 80 for plain HTTP, to the server as well.
    return Source(url.netloc, insecure=url.scheme == "http")


@dataclass(frozen=True)
class Offer:
    """What a tag is at a registry right now.

    :ivar digest: of the tag's manifest, be it a list or not.
    :ivar chosen: the manifest that a server would run.
    :ivar variants: digests of all variants, the chosen one first; empty for a plain manifest.
    :ivar originals: digests of the variants that newer servers convert from, and older ones can run.
    :ivar tag: what to pull it as where that is not the model's own tag.
    """

    digest: str
    chosen: Manifest
    variants: tuple[str, ...] = ()
    originals: tuple[str, ...] = ()
    tag: str | None = None

    def satisfies(self, pin: str) -> bool:
        """Return whether pulling this offer results in what a pin requires."""
        return pin in (self.digest, self.chosen.digest)

    @property
    def blobs(self) -> dict[str, int]:
        """Digest and size of every blob that a pull needs."""
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
    """Ask a registry for a tag's manifest, as a server would.

    :param lists: accept manifest lists, as servers of 0.40 and newer do.
    :param timeout: seconds that one answer may take; there are up to three tries for each of up to two requests.
    :param environment: variables of `_way`, in place of this process's own.
    :param until: when, on the monotonic clock, there has to be an answer.
    :raises OllamaError: ``tag_missing``, ``tag_refused`` where the registry refuses only this tag,
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
        # A child is fetched as a blob; its name is its hash, so a lie cannot pass.
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
        """Return the body of a 200, after up to three tries."""
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
        """Wait before another try; returns False where the deadline comes first."""
        if time.monotonic() + seconds >= self.until:
            return False
        sleep(seconds)
        return True

    def _body(self, answer: Response, url: str) -> bytes:
        html = answer.headers.get("content-type", "").startswith("text/html")
        if html and answer.body.lstrip().startswith(b"<"):
            page = f"{self.what}: the answer is a web page, as of a network that requires a login"
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
    """Return the message of a registry's refusal, in one of the known forms."""
    text = answer.text(2000)
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
        data = parse_json(text)
        found = data.get("error") or data.get("message") or data["errors"][0]["message"]
        text = found if isinstance(found, str) else text
    return f": {text[:400]}" if text and not text.lstrip().startswith("<") else ""


def _asked_pause(answer: Response, pause: float) -> float:
    """Return the seconds that a registry requests to wait, within limits."""
    asked = answer.headers.get("retry-after", "").strip()
    seconds = float(asked) if re.match(r"\d{1,9}\Z", asked) else 0.0
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        # A date, by the clock of the registry.
        now = answer.headers.get("date")
        until = parsedate_to_datetime(asked).timestamp()
        seconds = until - (parsedate_to_datetime(now).timestamp() if now else time.time())
    return min(max(pause, seconds), _LONGEST_PAUSE)
