# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch models from their sources until every blob is intact.

Only the digests of the files show whether a model is present, not the result of a pull: the server trusts every
existing blob.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.progress import human
from .._store.audit import audit
from .._store.layout import Damage
from .._store.partials import partials_of, remove_broken_partials
from .bundle_import import BundleSource
from .installed import key_of, list_models
from .plan import Candidate, Found, Pull, Reason
from .registry import Offer, Source
from .session import Session

if t.TYPE_CHECKING:
    from .declaration import DeclaredModel

# Errors after which the same registry is tried again: the server keeps the downloaded data.
_TRANSIENT = ("connection_lost", "connection_stalled", "registry_unreachable", "server_unreachable")
# Errors of a source, after which the next source is tried. All other errors are those of this host.
_SOURCE_FAILED = (
    *_TRANSIENT,
    "tag_missing",
    "digest_mismatch",
    "registry_refused",
    "registry_unsuitable",
    "registry_is_http",
    "manifest_invalid",
    "tls_failed",
    "model_unsupported",
)
_TRIES = 4
_REFETCHES = 2


@dataclass
class Outcome:
    """The changes that were made for one model."""

    actions: list[str] = field(default_factory=list)
    bytes_pulled: int = 0
    seconds: float = 0.0
    source: str | None = None
    damage: list[dict[str, t.Any]] = field(default_factory=list)
    failure: OllamaError | None = None


@dataclass
class Job:
    """The fetch of one model."""

    model: DeclaredModel
    before: Found
    step: Pull
    outcome: Outcome


class Puller:
    """Fetches models into the store of a session; it is thread-safe."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.client = session.client
        self.store = session.store
        self.memory = session.memory
        self.options = session.options

    def run(self, job: Job) -> None:
        """Fetch a model from the first source that can provide it.

        :raises OllamaError: if no source can.
        """
        name = job.model.name
        running = job.before.damage and name.key in {key_of(row) for row in self.client.running()}
        failures: list[str] = []
        for candidate in job.step.candidates:
            last = candidate is job.step.candidates[-1]
            try:
                candidate.source.fetch(self, job, candidate, patient=last)
            except OllamaError as exc:
                failures.append(f"{candidate.source}: {exc.message}")
                job.outcome.actions.append(f"gave up on {candidate.source}: {exc.message}")
                if last or exc.code not in _SOURCE_FAILED:
                    raise _failure(job, failures, exc) from None
                continue
            job.outcome.source = str(candidate.source)
            if not self._is_unchanged(job):
                size = human(job.outcome.bytes_pulled)
                job.outcome.actions.append(f"{job.step.reason.value} from {candidate.source}, {size} fetched")
            break
        if running:
            # A loaded runner still has the damaged file mapped.
            self.client.generate({"model": str(name), "keep_alive": 0}, timeout=60)
            job.outcome.actions.append("unloaded the damaged copy")

    def _is_unchanged(self, job: Job) -> bool:
        """Return whether a pull has only compared an intact model with its source and changed nothing."""
        entry = self.store.find(job.model.name) if self.store and job.step.reason is Reason.OUTDATED else None
        return bool(entry and entry.digest == job.before.digest)

    def import_(self, bundle: BundleSource, job: Job, candidate: Candidate) -> None:
        """Copy a model from a bundle, and verify that the server lists it afterwards."""
        session, name = self.session, job.model.name

        def watch(digest: str, count: int) -> None:
            if time.monotonic() > session.deadline:
                raise OllamaError(
                    "deadline_exceeded", f"{name}: the deadline has passed; complete blobs are kept for the next run"
                )
            event = {"status": f"copying {digest[7:19]}", "digest": digest, "completed": count}
            session.progress.update(str(name), candidate.size, event)

        if not self.store:
            raise OllamaError(
                "store_unreadable",
                "models_dir: a bundle needs a readable store; expected the server's, or become: true",
            )
        job.outcome.bytes_pulled += bundle.import_(name, self.store, self.memory, watch)
        session.progress.update(str(name), candidate.size, {"status": "success"})
        if name.key not in list_models(self.client):
            raise OllamaError(
                "store_mismatch",
                f"models_dir: {name} was copied to {self.store.root}, but the server does not list it; expected"
                " OLLAMA_MODELS of the server",
            )

    def pull(self, source: Source, job: Job, candidate: Candidate, *, patient: bool) -> None:
        """Pull from one registry. If it cannot provide the model, the data from it is removed."""
        name, offer = job.model.name, candidate.offer
        target = name if source.host == name.host else name.at(source.host)
        if offer and offer.tag:
            target = replace(target, tag=offer.tag)
        if target != name and str(target) not in self.memory.pending:
            self.memory.pending.append(str(target))
            self.memory.save()
        pull = _RegistryPull(self, source, target, job, offer, patient)
        try:
            pull.until_intact()
            pull.check_identity()
        except OllamaError:
            if target != name or job.step.reason is Reason.MISSING:
                self._discard(target)
            raise
        if target != name:
            self.client.copy(target, name)
            self.client.delete(target)
            self.memory.pending.remove(str(target))

    def remove_blob(self, digest: str) -> None:
        """Remove a damaged blob from the store, as the server would trust the existing file."""
        self.memory.verified.pop(digest, None)
        if self.store:
            self.store.remove_blob(digest)

    def _discard(self, target: Name) -> None:
        """Remove an incomplete or wrong model, so that its name does not exist. Partial downloads are kept."""
        with contextlib.suppress(OllamaError):
            self.client.delete(target)
        if str(target) in self.memory.pending:
            self.memory.pending.remove(str(target))


def _failure(job: Job, failures: t.Sequence[str], exc: OllamaError) -> OllamaError:
    text = "; ".join(failures) if len(failures) > 1 else exc.message
    unverified = job.step.unverified
    if unverified:
        return OllamaError(unverified.code, f"{unverified.message}; {text}")
    name = str(job.model.name)
    return OllamaError(exc.code, f"{name}: {text}", **dict(exc.details, name=name))


@dataclass
class _RegistryPull:
    """The pull of one model from one registry by the server.

    :ivar target: the name that the server pulls: that of the model, or of its copy on a mirror.
    :ivar patient: whether there is no other source, so that more attempts are made.
    """

    puller: Puller
    source: Source
    target: Name
    job: Job
    offer: Offer | None
    patient: bool

    def until_intact(self) -> None:
        """Pull until all blobs are intact.

        :raises OllamaError: ``digest_mismatch`` if the registry repeatedly sends damaged data, and other errors.
        """
        outcome = self.job.outcome
        for attempt in range(1 + _REFETCHES):
            damage = self._pull_and_verify()
            if not damage:
                return
            outcome.damage += [item.to_dict() for item in damage if item.to_dict() not in outcome.damage]
            outcome.actions += [f"{self.source} sent damage: {item}" for item in damage]
            for item in damage:
                self.puller.remove_blob(item.blob.digest)
            if attempt == _REFETCHES:
                raise OllamaError(
                    "digest_mismatch",
                    f"{self.source} sent damaged bytes {1 + _REFETCHES} times: {damage[0]}",
                    source=str(self.source),
                    damage=[item.to_dict() for item in damage],
                )

    def _pull_and_verify(self) -> list[Damage]:
        store, memory, session = self.puller.store, self.puller.memory, self.puller.session
        here = self._bytes_here()
        try:
            self._stream()
        except OllamaError as exc:
            if exc.code != "digest_mismatch" or not store or not self.offer:
                raise
            self._count_fetched(here)
            # The server reports and deletes only the first damaged blob of a pull; it would trust the others forever.
            bad = audit(store, self.offer.chosen.blobs, memory).damage.values()
            named = [Damage(b, "content") for b in self.offer.chosen.blobs if f"want {b.digest}" in exc.message]
            return named + [item for item in bad if item.kind != "missing" and item.blob not in [n.blob for n in named]]
        self._count_fetched(here)
        entry = store.find(self.target) if store else None
        if not entry or not store:
            return []
        if entry.problem:
            raise OllamaError("manifest_invalid", f"{self.target}: {entry.problem}")
        seen = audit(store, entry.blobs, memory, mode="none" if self._verify == "none" else "changed")
        session.count(seen)
        return list(seen.damage.values())

    @property
    def _verify(self) -> str:
        return self.job.model.verify or self.puller.options.verify

    def check_identity(self) -> None:
        """Compare the pulled model with the offer, as the tag may have moved between look-up and pull.

        :raises OllamaError: ``digest_mismatch``.
        """
        name, pin, offer = self.job.model.name, self.job.model.pin, self.offer
        store = self.puller.store
        entry = store.find(self.target) if store else None
        if entry:
            got, known = entry.digest, entry.digests
        else:
            rows = [row for row in self.puller.client.tags() if key_of(row) == self.target.key]
            got = "sha256:" + str(rows[0].get("digest")) if rows else ""
            known = frozenset([got])
        want = pin or (offer.chosen.digest if offer and self.target != name else None)
        if want and want not in known and not (offer and offer.digest in known and offer.satisfies(want)):
            raise OllamaError(
                "digest_mismatch",
                f"{name}: {'pinned' if pin else 'offered'} is {want}, but {self.source} sent {got or 'nothing'}",
                source=str(self.source),
                pinned=want,
                offered=got,
            )
        if offer:
            self.puller.memory.origins[name.key] = {"registry": offer.digest, "variant": got}

    def _bytes_here(self) -> dict[str, int]:
        """Return the number of bytes of each offered blob that are already on the disk."""
        store = self.puller.store
        if not store or not self.offer:
            return {}
        partial = {part["digest"]: part["completed"] for part in partials_of(store)}
        return {
            digest: size if store.blob_info(digest) else min(size, partial.get(digest, 0))
            for digest, size in self.offer.blobs.items()
        }

    def _count_fetched(self, here: t.Mapping[str, int]) -> None:
        sizes = self.offer.blobs if self.offer else {}
        self.job.outcome.bytes_pulled += sum(size - here[digest] for digest, size in sizes.items() if digest in here)

    def _stream(self) -> None:
        """Pull, and reconnect if that resumes the download."""
        session = self.puller.session
        tries = _TRIES if self.patient else 2
        for attempt in range(1, tries + 1):
            try:
                self._stream_once()
                return
            except OllamaError as exc:
                if attempt == tries or not (self._remove_broken_partials() or exc.code in _TRANSIENT):
                    raise
                session.progress.note(f"{self.job.model.name}: {exc.message}; trying again")
            # This also covers a restart of the server during the pull.
            time.sleep(min(2**attempt * 0.25, 10))
            session.client.wait(60)

    def _remove_broken_partials(self) -> bool:
        """Remove partial downloads that a power failure has damaged; return whether there were any.

        They fail every pull.
        """
        store = self.puller.store
        broken = remove_broken_partials(store, self.offer.blobs) if store and self.offer else []
        self.job.outcome.actions += [f"removed the damaged partial download of {digest[:19]}" for digest in broken]
        return bool(broken)

    def _stream_once(self) -> None:
        session = self.puller.session
        size = self.offer.chosen.size if self.offer else 0
        watch = _Watch(session.options.stall_timeout, session.deadline, str(self.target))
        ahead: threading.Thread | None = None
        try:
            # The server sends no data while it hashes the download; the limit allows for a disk with 50 MB/s.
            silence = session.options.stall_timeout + size / 50e6
            events = session.client.pull(self.target, insecure=self.source.insecure, timeout=silence)
            # The server cancels a hanging download only when the connection is closed.
            with contextlib.closing(events):
                for event in events:
                    watch(event)
                    session.progress.update(str(self.job.model.name), size, event)
                    if event.get("status") == "verifying sha256 digest" and not ahead and self.offer:
                        ahead = threading.Thread(target=self._hash_ahead, args=(self.offer,))
                        ahead.start()
        finally:
            if ahead:
                ahead.join()

    def _hash_ahead(self, offer: Offer) -> None:
        """Hash the downloaded files while the server does the same; they already have their final names."""
        session = self.puller.session
        if session.store and self._verify != "none":
            session.count(audit(session.store, offer.chosen.blobs, session.memory))


class _Watch:
    """Called with each event of a pull; raises an error if it makes no progress, or if the deadline has passed."""

    def __init__(self, stall_timeout: float, deadline: float, what: str) -> None:
        self.stall_timeout = stall_timeout
        self.deadline = deadline
        self.what = what
        self.bytes: dict[str, int] = {}
        self.moved = time.monotonic()

    def __call__(self, event: t.Mapping[str, t.Any]) -> None:
        now = time.monotonic()
        digest = str(event.get("digest") or event.get("status"))
        completed = int(event.get("completed") or 0)
        if self.bytes.get(digest) != completed:
            self.bytes[digest] = completed
            self.moved = now
        if now > self.deadline:
            raise OllamaError(
                "deadline_exceeded",
                f"{self.what}: the deadline has passed; downloaded data is kept for the next run",
            )
        if now - self.moved > self.stall_timeout:
            raise OllamaError("connection_stalled", f"{self.what}: no byte for {self.stall_timeout:g} s")
