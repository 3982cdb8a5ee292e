# SPDX-License-Identifier: GPL-3.0-or-later
"""Model names as Ollama reads them: [scheme://]host/namespace/model:tag, each part with its own alphabet."""

from __future__ import annotations

import dataclasses
import re
import typing as t

DEFAULT_HOST = "registry.ollama.ai"
PUBLIC_HOSTS = ("registry.ollama.ai", "ollama.com")

_PARTS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


@dataclasses.dataclass(frozen=True)
class Name:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def valid(self) -> bool:
        return all(pattern.fullmatch(getattr(self, part)) for part, pattern in _PARTS.items())

    @property
    def display(self) -> str:
        """Return the short form of tags and ps: without default host and namespace, with the tag."""
        shown = f"{self.model}:{self.tag}"
        if self.host not in PUBLIC_HOSTS:
            return f"{self.host}/{self.namespace}/{shown}"
        return shown if self.namespace == "library" else f"{self.namespace}/{shown}"

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return (self.host, self.namespace, self.model, self.tag)


def parse(text: str) -> Name:
    """Return a name with defaults; `valid` is whether it is valid."""
    rest = text.split("://", 1)[-1]
    tag = "latest"
    head, colon, last = rest.rpartition(":")
    if colon and "/" not in last:
        rest, tag = head, last
    if tag == "local":  # forces the local model and is stripped
        tag = "latest"
    pieces = rest.split("/")
    if len(pieces) > 3:
        return Name("", "", "", "")
    model = pieces[-1]
    namespace = pieces[-2] if len(pieces) > 1 else "library"
    host = pieces[0] if len(pieces) > 2 else DEFAULT_HOST
    return Name(host, namespace, model, tag)


def fold_to_existing(name: Name, existing: t.Iterable[Name]) -> Name:
    """Return the name with the spelling of the first stored parts that differ only in case."""
    found: dict[str, str] = {}
    for other in existing:
        for part in ("host", "namespace", "model", "tag"):
            if part not in found and getattr(other, part).lower() == getattr(name, part).lower():
                found[part] = getattr(other, part)
    return dataclasses.replace(name, **found)
