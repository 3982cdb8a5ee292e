# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of model names, as defined by types/model/name.go and internal/modelref of Ollama. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace

from .errors import OllamaError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_GRAMMAR = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z"),
}
# The maximum number of characters of a value in messages.
_SHOWN = 100
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Name:
    """A fully qualified model name: ``host/namespace/model:tag``."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Return the name in the form of Ollama: without default parts, but always with the tag."""
        path = f"{self.namespace}/{self.model}:{self.tag}"
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{path}"
        return path if self.namespace != DEFAULT_NAMESPACE else f"{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """The key of a model, which is the same for all spellings, as Ollama compares names without regard to case."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @property
    def is_cloud(self) -> bool:
        """Whether Ollama runs a model with this tag in the cloud."""
        tag = self.tag.lower()
        return tag == "cloud" or tag.endswith("-cloud")

    @property
    def is_valid(self) -> bool:
        """Whether Ollama accepts all parts; a name that was read from a disk may contain any characters."""
        return all(grammar.match(getattr(self, part)) for part, grammar in _GRAMMAR.items())

    def at(self, host: str) -> Name:
        """Return the name of the same model in another registry."""
        return replace(self, host=host)


def _shown(value: t.Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def parse(text: t.Any, *, allow_cloud: bool = False, what: str = "name") -> Name:
    """Return the fully qualified name that Ollama derives from a text.

    :param allow_cloud: whether tags that run in the cloud (``cloud``, ``…-cloud``) are accepted.
    :param what: the name of the value in messages.
    :raises OllamaError: ``name_invalid``, or ``model_in_cloud`` for a cloud tag that is not accepted.
    """

    def invalid(why: str) -> OllamaError:
        return OllamaError(
            "name_invalid",
            f"{what}: invalid name {_shown(text)}: {why}; expected [host/][namespace/]model[:tag]",
            name=text,
        )

    if not isinstance(text, str) or not text:
        raise invalid("it must be a non-empty string")
    rest = text.split("://", 1)[-1]
    if "@" in rest:
        raise invalid("Ollama cannot address models by digest; pin with the option digest instead")
    path, tag = rest, DEFAULT_TAG
    if ":" in rest[rest.rfind("/") + 1 :]:
        path, tag = rest.rsplit(":", 1)
    parts = path.split("/")
    if len(parts) > 3:
        raise invalid("it has more than three path parts")
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[-3] if len(parts) > 2 else DEFAULT_HOST
    name = Name(host, namespace, model, tag)
    for part, grammar in _GRAMMAR.items():
        value = getattr(name, part)
        if not grammar.match(value):
            raise invalid(f"the {part} {_shown(value)} is empty, too long or has an invalid character")
    if len(parts) == 1 and re.fullmatch(r"[0-9a-f]{64}", model):
        raise invalid("Ollama 0.40 and newer read 64 hexadecimal digits as a digest")
    if tag.lower() == "local":
        raise invalid("the tag 'local' is reserved, and Ollama removes it")
    if name.is_cloud and not allow_cloud:
        raise OllamaError(
            "model_in_cloud",
            f"{what}: {text!r} runs in the cloud: prompts would leave this host; set allow_cloud: true to permit it",
            name=text,
        )
    # Both names mean the public registry; stores of 0.40 and newer contain the second one.
    return name.at(DEFAULT_HOST) if name.host.lower() in (DEFAULT_HOST, "ollama.com") else name


def short_digest(digest: str) -> str:
    """Return the digits of a digest that ``ollama list`` shows."""
    return digest.replace("sha256:", "")[:12]


def parse_digest(text: t.Any, *, what: str = "digest") -> str:
    """Return a digest as ``sha256:<64 hex>``. The prefix is optional, and case is ignored.

    :raises OllamaError: ``digest_invalid``.
    """
    digest = str(text).strip().lower()
    if not digest.startswith("sha256:"):
        digest = "sha256:" + digest
    if not _DIGEST.match(digest):
        raise OllamaError(
            "digest_invalid", f"{what}: invalid digest {text!r}; expected sha256: and 64 hexadecimal digits"
        )
    return digest
