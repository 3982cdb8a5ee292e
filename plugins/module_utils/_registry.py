# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry offers under a tag: digest and sizes, for about one kilobyte of traffic.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit

from ._errors import OllamaError
from ._http import request
from ._name import DEFAULT_HOST, Name
from ._store import MANIFEST, MANIFEST_LIST, Manifest, parse_manifest


@dataclass(frozen=True)
class Source:
    """A registry to pull from: the host part of a model's name there, and whether it speaks plain HTTP."""

    host: str
    insecure: bool = False

    @property
    def url(self) -> str:
        """The registry's base URL."""
        return f"{'http' if self.insecure else 'https'}://{self.host}"

    def __str__(self) -> str:
        return self.host if self.host == DEFAULT_HOST else self.url


def parse_mirror(text: t.Any, *, what: str = "mirrors") -> Source:
    """Return the source that a URL such as ``http://hecate.lan:11480`` names; raises ``invalid_mirror``."""
    url = urlsplit(str(text))
    try:
        port_ok = url.port is None or url.port > 0
    except ValueError:
        port_ok = False
    if (
        url.scheme not in ("http", "https")
        or not url.hostname
        or not port_ok
        or url.path.strip("/")
        or url.query
        or "@" in url.netloc
    ):
        raise OllamaError(
            "invalid_mirror", f"{what}: {text!r} is not a mirror; allowed is http://host[:port] or https://host[:port]"
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
        """Return whether pulling this offer gives what a pin asks for."""
        return pin in (self.digest, self.chosen.digest)

    @property
    def blobs(self) -> dict[str, int]:
        """Digest and size of every blob that a pull needs."""
        return {blob.digest: blob.size for blob in self.chosen.blobs}


def look_up(source: Source, name: Name, *, lists: bool, timeout: float = 30.0) -> Offer:
    """Ask a registry for a tag's manifest, as a server would.

    :param lists: accept manifest lists, as servers of 0.40 and newer do.
    :raises OllamaError: ``tag_missing``, ``registry_refused``, ``registry_unreachable``, ``bad_manifest``, ``tls``.
    """
    base = f"{source.url}/v2/{name.namespace}/{name.model}"
    url = f"{base}/manifests/{name.tag}"
    body = _get(url, ", ".join([MANIFEST_LIST] * lists + [MANIFEST]), f"{name} at {source}", timeout)
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    try:
        parsed = parse_manifest(body)
        if isinstance(parsed, Manifest):
            return Offer(digest, parsed)
        # A child is fetched as a blob; its name is its hash, so a lie cannot pass.
        child_body = _get(f"{base}/blobs/{parsed[0].digest}", "*/*", f"a variant of {name} at {source}", timeout)
        child = parse_manifest(child_body)
        if not isinstance(child, Manifest) or child.digest != parsed[0].digest:
            raise OllamaError("bad_manifest", f"the variant {parsed[0].digest[:19]} is not what its digest says")
    except OllamaError as exc:
        raise OllamaError(exc.code, f"{name} at {source}: {exc.message}", url=url) from None
    originals = tuple(variant.digest for variant in parsed if variant.runner == "ggml")
    return Offer(digest, child, tuple(variant.digest for variant in parsed), originals)


def _get(url: str, accept: str, what: str, timeout: float) -> bytes:
    try:
        answer = request("GET", url, headers={"Accept": accept}, timeout=timeout, read_limit=4 << 20)
    except OllamaError as exc:
        code = exc.code if exc.code == "tls" else "registry_unreachable"
        raise OllamaError(code, f"cannot ask for {what}: {exc.message}", url=url) from None
    if answer.status == 404:
        raise OllamaError("tag_missing", f"{what}: the registry has no such model or tag", url=url)
    if answer.status in (401, 403):
        raise OllamaError("registry_refused", f"{what}: the registry answered {answer.status}", url=url)
    if answer.status != 200:
        raise OllamaError(
            "registry_unreachable", f"{what}: the registry answered {answer.status} {answer.text(60)}".rstrip(), url=url
        )
    return answer.body
