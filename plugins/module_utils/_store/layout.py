# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of Ollama's model store: blobs, manifests, variants, tags, and kinds of damage. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.text import printable

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.ollama.manifest.list.v2+json"
TREES = ("manifests-v2", "manifests")
# The order of preference of a server on Linux among the variants of a list.
RUNNERS = ("llamacpp", "ggml", "mlx")
BLOB_FILE = re.compile(r"sha256-[0-9a-f]{64}\Z")
PARTIAL_FILE = re.compile(r"(sha256-[0-9a-f]{64})(-partial(-\d+)?|\.tmp)\Z")
_MAX_SIZE = 1 << 62


@dataclass(frozen=True)
class Blob:
    """A content-addressed file in a manifest; its size is in bytes."""

    digest: str
    size: int
    media_type: str = ""

    @property
    def file_name(self) -> str:
        """The name of the file in ``blobs/``."""
        return self.digest.replace(":", "-")


@dataclass(frozen=True)
class Manifest:
    """The content of one variant of a model."""

    digest: str
    blobs: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """The size of the config and all layers in bytes, as in ``/api/tags``."""
        return sum(blob.size for blob in self.blobs if blob.media_type not in (MANIFEST, MANIFEST_LIST))


@dataclass(frozen=True)
class Variant:
    """An element of a manifest list."""

    digest: str
    runner: str
    size: int = 0


def parse_manifest(body: bytes) -> Manifest | tuple[Variant, ...]:
    """Parse a manifest, or a manifest list, whose variants are returned in the server's order of preference.

    :raises OllamaError: ``manifest_invalid`` with the reason.
    """
    try:
        data = json.loads(body)
        if data.get("mediaType") == MANIFEST_LIST or "manifests" in data:
            variants = [
                Variant(
                    checked_digest(c["digest"]),
                    printable(str(c.get("runner", "")))[:80],
                    checked_size(c.get("size", 0)),
                )
                for c in data["manifests"]
            ]
            if not variants:
                raise ValueError("the list of variants is empty")
            rank = {runner: index for index, runner in enumerate(RUNNERS)}
            return tuple(sorted(variants, key=lambda v: rank.get(v.runner, len(RUNNERS))))
        parts = [data["config"]] if data.get("config") else []
        blobs = tuple(
            Blob(checked_digest(p["digest"]), checked_size(p["size"]), printable(str(p.get("mediaType", "")))[:120])
            for p in parts + list(data["layers"])
        )
        if not blobs:
            raise ValueError("it names no layer")
        return Manifest(sha256_of(body), blobs)
    except RecursionError:
        raise OllamaError("manifest_invalid", "unreadable manifest: it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        what = "it is empty" if not body else f"missing {exc}" if isinstance(exc, KeyError) else printable(str(exc))
        raise OllamaError("manifest_invalid", f"unreadable manifest: {what}") from None


def checked_digest(text: t.Any) -> str:
    digest = str(text)
    # The digest becomes part of a path, so only its exact form is valid.
    if not BLOB_FILE.match(digest.replace("sha256:", "sha256-", 1)):
        raise ValueError(f"{digest[:80]!r} is not a digest")
    return digest.replace("sha256-", "sha256:", 1)


def checked_size(value: t.Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SIZE:
        raise ValueError(f"invalid size {str(value)[:80]!r}")
    return value


def sha256_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


@dataclass
class Entry:
    """A tag of the store.

    :ivar digest: the digest of the manifest that the server runs, as in ``/api/tags``: that of the tag or of the chosen
        variant.
    :ivar digests: all digests that identify the tag: those of its own manifest and of its existing variants.
    :ivar blobs: the blobs that must be on the disk for this tag, including manifests that are blobs.
    :ivar problem: the reason why the tag cannot be read, or None.
    """

    name: Name
    path: str
    digest: str = ""
    size: int = 0
    digests: frozenset[str] = frozenset()
    blobs: tuple[Blob, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Damage:
    """A blob that does not match its digest."""

    blob: Blob
    kind: str
    found: int | None = None

    def __str__(self) -> str:
        label = f"{self.blob.media_type.rsplit('.', 1)[-1] or 'blob'} {self.blob.digest[:19]}"
        if self.kind in ("short", "long"):
            return f"{label} is too {self.kind}: {self.found} of {self.blob.size} bytes"
        return {
            "missing": f"{label} is missing",
            "content": f"{label} has wrong content",
            "unreadable": f"{label} cannot be read",
        }[self.kind]

    def to_dict(self) -> dict[str, t.Any]:
        """Return the damage for the result of a module."""
        return {
            "digest": self.blob.digest,
            "kind": self.kind,
            "media_type": self.blob.media_type,
            "size": self.blob.size,
            "found_size": self.found,
            "message": str(self),
        }
