# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of models: registries and bundles with one interface; each is queried once per call.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field, replace

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name
from .bundle_import import BundleSource
from .declaration import DeclaredModel
from .plan import Accepted, Answer, Answers
from .registry import Offer, Source, look_up
from .session import Session

if t.TYPE_CHECKING:
    from .plan import Candidate
    from .pull import Job, Puller


class ModelSource(t.Protocol):
    """A registry or a bundle."""

    @property
    def has_mirrors(self) -> bool:
        """Whether mirrors are queried before this source."""

    @property
    def is_mirror(self) -> bool:
        """Whether it serves the names of another registry, and manifests by their digest."""

    @property
    def is_bundle(self) -> bool:
        """Whether models are copied from it instead of downloaded."""

    def offer(self, name: Name) -> Offer:
        """Return the offer for a name.

        :raises OllamaError: if there is none.
        """

    def prepare(self) -> None:
        """Verify the source before anything is changed.

        :raises OllamaError: if it is not intact.
        """

    def fetch(self, puller: Puller, job: Job, candidate: Candidate, *, patient: bool) -> None:
        """Fetch a model into the store.

        :param patient: whether there is no other source.
        :raises OllamaError: if the model cannot be fetched.
        """


@dataclass(frozen=True)
class RegistrySource:
    """A registry from which the server pulls."""

    registry: Source
    session: Session = field(compare=False, repr=False)
    has_mirrors: bool = field(default=False, compare=False)
    is_mirror: bool = field(default=False, compare=False)
    is_bundle: t.ClassVar[bool] = False

    def __str__(self) -> str:
        return str(self.registry)

    def offer(self, name: Name) -> Offer:
        """Query the registry, as a server does."""
        session = self.session
        return look_up(
            self.registry,
            name,
            lists=session.lists,
            environment=session.options.environment,
            until=session.deadline,
        )

    def prepare(self) -> None:
        """Do nothing: a registry cannot be verified in advance."""

    def fetch(self, puller: Puller, job: Job, candidate: Candidate, *, patient: bool) -> None:
        """Pull the model by the server."""
        puller.pull(self.registry, job, candidate, patient=patient)


@dataclass(frozen=True)
class BundledSource:
    """A bundle on the host."""

    bundle: BundleSource = field(compare=False)
    path: str
    session: Session = field(compare=False, repr=False)
    has_mirrors: t.ClassVar[bool] = False
    is_mirror: t.ClassVar[bool] = False
    is_bundle: t.ClassVar[bool] = True

    def __str__(self) -> str:
        return self.path

    def offer(self, name: Name) -> Offer:
        """Return the model in the bundle."""
        return self.bundle.offer(name)

    def prepare(self) -> None:
        """Verify the checksums of the complete bundle, unless no model of it is used."""
        self.session.progress.note(f"verifying the checksums of {self}")
        self.bundle.read(hash_all=True)
        self.session.progress.note("")

    def fetch(self, puller: Puller, job: Job, candidate: Candidate, *, patient: bool) -> None:
        """Copy a model from the bundle."""
        puller.import_(self.bundle, job, candidate)


class Offers:
    """The offers of sources. Each is queried once per name, and not again if it did not answer.

    Use it as a context manager: it closes bundles.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._offers: dict[tuple[ModelSource, str], Answer] = {}
        self._dead: set[ModelSource] = set()
        self._bundles: dict[str, BundledSource] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Offers:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def sources(self, model: DeclaredModel) -> list[ModelSource]:
        """Return the sources of a model in order; the last one is its own registry or its bundle."""
        if model.source:
            if model.source not in self._bundles:
                bundle = self._stack.enter_context(BundleSource(model.source, lists=self.session.lists))
                self._bundles[model.source] = BundledSource(bundle, model.source, self.session)
            return [self._bundles[model.source]]
        # A mirror serves only the names of the public registry; models of other registries can have the same path.
        mirrors = self.session.options.mirrors if model.name.host == DEFAULT_HOST else ()
        upstream = RegistrySource(
            Source(model.name.host, self.session.options.insecure), self.session, has_mirrors=bool(mirrors)
        )
        return [*(RegistrySource(mirror, self.session, is_mirror=True) for mirror in mirrors), upstream]

    def ask(self, source: ModelSource, name: Name) -> Answer:
        """Return the answer of a source about a name."""
        key = (source, name.key)
        if source in self._dead:
            error = OllamaError("registry_unreachable", f"{source} did not reply before")
            return self._offers.get(key, Answer(source, error=error))
        if key not in self._offers:
            try:
                self._offers[key] = Answer(source, source.offer(name))
            except OllamaError as exc:
                self._offers[key] = Answer(source, error=exc)
                if exc.code == "registry_unreachable":
                    self._dead.add(source)
        return self._offers[key]

    def latest(self, model: DeclaredModel) -> list[Answer]:
        """Query the model's own registry and, only if that fails and they are trusted, mirrors."""
        answers: list[Answer] = []
        for source in reversed(self.sources(model)):
            answers.append(self.ask(source, model.name))
            if answers[-1].offer or not self.session.options.mirrors_trusted:
                break
        return answers

    def confirmation(self, model: DeclaredModel) -> Answer | None:
        """Return the answer of the public registry if that of a mirror must be confirmed."""
        sources = self.sources(model)
        return self.ask(sources[-1], model.name) if len(sources) > 1 and not model.pin else None

    def gather(self, model: DeclaredModel, right: Accepted, confirmation: Answer | None) -> Answers:
        """Query all sources of a model that may be used."""
        sources = self.sources(model)
        usable = sources[-1:] if right.unverified else sources
        answers = tuple(self.best(source, model.name, right.digests) for source in usable)
        return Answers(sources[-1], answers, confirmation)

    def best(self, source: ModelSource, name: Name, digests: t.Collection[str]) -> Answer:
        """Return the offer of a source for the tag or, from a mirror, for a digest.

        The tag on a mirror may have changed, or may be a list that this server cannot read; its manifests remain.
        """
        answer = self.ask(source, name)
        offer = answer.offer
        if not offer or not source.is_mirror:
            return answer
        readable = self.session.lists or not offer.variants
        if readable and (not digests or any(map(offer.satisfies, digests))):
            return answer
        for digest in sorted(digests) or [*offer.originals, offer.chosen.digest]:
            tag = digest.replace(":", "-")
            found = self.ask(source, replace(name, tag=tag)).offer
            if found:
                return Answer(source, replace(found, tag=tag))
        return answer
