# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a server's models to the wanted state: look, plan, act, look again.

Whatever a pull reports, only the digests of the files decide whether a model is there: the server trusts every blob
that exists.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name, parse, parse_digest
from .._core.progress import Progress, human
from .._gpu.fit import too_big
from .._server.api import Client
from .._store.store import Audit, Damage, Entry, Memory, Store, audit
from .bundle_import import BundleSource
from .registry import OF_THE_WAY, Offer, Source, look_up

# Worth another try at the same registry: what was downloaded so far is kept by the server.
_TRANSIENT = ("connection_lost", "stalled", "registry_unreachable", "unreachable")
# About the source, so the next one may do better; everything else is about this host.
_SOURCE_FAILED = (
    *_TRANSIENT,
    "tag_missing",
    "digest_mismatch",
    "registry_refused",
    "registry_unsuitable",
    "registry_is_http",
    "bad_manifest",
    "tls",
    "no_variant",
)
_TRIES = 4
_REFETCHES = 2
# In how many places a store can have one name: two trees and two hosts of the public registry.
_SPELLINGS = 4
_VERBS = {"pull": "pulled", "repair": "repaired", "replace": "replaced by the pinned one", "update": "updated"}

Origin = t.Union[Source, BundleSource]


@dataclass(frozen=True)
class Wanted:
    """A declared model."""

    name: Name
    state: str = "present"
    pin: str | None = None
    aliases: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Options:
    """How to get there; units: seconds. A deadline of 0 means none."""

    mirrors: tuple[Source, ...] = ()
    mirrors_trusted: bool = False
    """Use what a mirror offers even where neither a pin nor the public registry can confirm its digest."""
    insecure: bool = False
    verify: str = "changed"
    stall_timeout: float = 90.0
    deadline: float = 0.0
    parallel: int = 1
    detach: bool = False
    vram: int = 0
    """Bytes of GPU memory that models are to fit into; 0 where that is not known or does not matter."""
    exclusive: bool = False
    keep: tuple[Name, ...] = ()
    environment: t.Mapping[str, str] | None = None
    """Variables for look-ups, in place of this process's own."""


def parse_wanted(
    items: t.Iterable[t.Any],
    *,
    state: str,
    allow_cloud: bool,
    locked: t.Mapping[str, str] | None = None,
    variable: str = "models",
) -> list[Wanted]:
    """Read the list of models that a user declared: strings, or mappings with name, state, digest and aliases.

    :param state: the state of those that do not say.
    :param variable: what the list is called, for messages.
    :param locked: pins by model name; a model's own digest comes first.
    :raises OllamaError: ``invalid_name``, ``invalid_digest``, ``invalid_model``, ``duplicate_model``, ``cloud_model``.
    """
    pins = {
        parse(name, allow_cloud=True, what="lock").key: parse_digest(pin, what=f"lock: {name}")
        for name, pin in (locked or {}).items()
    }
    result: list[Wanted] = []
    taken: dict[str, str] = {}
    for index, item in enumerate(items):
        what = f"{variable}[{index}]"
        data = {"name": item} if isinstance(item, str) else item
        if not isinstance(data, dict) or not data.get("name"):
            raise OllamaError(
                "invalid_model",
                f"{what}: {item!r} is not a model; allowed is a name, or a mapping with name, state, digest, aliases",
            )
        unknown = set(data) - {"name", "state", "digest", "aliases"}
        if unknown:
            raise OllamaError(
                "invalid_model", f"{what}: unknown key {sorted(unknown)[0]!r}; allowed are name, state, digest, aliases"
            )
        wanted_state = data.get("state") or state
        if wanted_state not in ("present", "latest", "absent"):
            raise OllamaError(
                "invalid_model", f"{what}.state: {wanted_state!r} is not allowed; allowed are present, latest, absent"
            )
        name = parse(data["name"], allow_cloud=allow_cloud or wanted_state == "absent", what=f"{what}.name")
        aliases = data.get("aliases") or []
        if not isinstance(aliases, list):
            raise OllamaError("invalid_model", f"{what}.aliases: {aliases!r} is not a list of model names")
        alias_names = tuple(parse(alias, what=f"{what}.aliases") for alias in aliases)
        for used in (name, *alias_names):
            if used.key in taken:
                raise OllamaError("duplicate_model", f"{what}: {used} is already declared by {taken[used.key]}")
            taken[used.key] = what
        pin = parse_digest(data["digest"], what=f"{what}.digest") if data.get("digest") else pins.get(name.key)
        result.append(Wanted(name, wanted_state, None if wanted_state == "absent" else pin, alias_names))
    return result


@dataclass
class Found:
    """A model as it is: on the server, on the disk, or nowhere."""

    digest: str = ""
    size: int = 0
    digests: frozenset[str] = frozenset()
    problem: str | None = None
    damage: tuple[Damage, ...] = ()
    on_disk: bool = False

    @property
    def intact(self) -> bool:
        """Whether the model is there and nothing is known to be wrong with it."""
        return bool(self.digest) and not self.problem and not self.damage

    @property
    def state(self) -> tuple[str, bool, bool]:
        """What makes a model another, or better or worse, than before."""
        return self.digest, self.intact, bool(self.digest) or self.on_disk


@dataclass
class Plan:
    """What has to be done for one model; empty reasons mean nothing."""

    wanted: Wanted
    before: Found
    pull: str = ""
    candidates: list[tuple[Origin, Offer | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    copies: tuple[Name, ...] = ()
    delete: bool = False
    failure: OllamaError | None = None
    """Why nothing can be done for this model; the others get their turn."""
    unverified: OllamaError | None = None
    """Why the mirrors are not used."""


@dataclass
class Outcome:
    """What was done for one model."""

    actions: list[str] = field(default_factory=list)
    bytes_pulled: int = 0
    seconds: float = 0.0
    source: str | None = None
    damage: list[dict[str, t.Any]] = field(default_factory=list)
    failure: OllamaError | None = None


class Models:
    """The models of one server and its store.

    :param store: None where the store cannot be seen from here; then digests are the server's word.
    :param supply: a bundle that takes the place of all registries.
    """

    def __init__(
        self,
        client: Client,
        store: Store | None,
        memory: Memory,
        options: Options,
        *,
        lists: bool,
        progress: Progress,
        supply: BundleSource | None = None,
    ) -> None:
        self.client = client
        self.store = store
        self.memory = memory
        self.options = options
        self.lists = lists
        self.progress = progress
        self.supply = supply
        self.audit = Audit({})
        self.warnings: list[str] = []
        self._started = time.monotonic()
        self._offers: dict[tuple[Origin, str], Offer | OllamaError] = {}
        self._dead: set[Origin] = set()

    # --- looking

    def look(self, names: t.Iterable[Name], listed: dict[str, dict[str, t.Any]], *, verify: str) -> dict[str, Found]:
        """Return what there is of each name, by key, blobs checked as verify says."""
        entries: dict[str, Entry | None] = {}
        result: dict[str, Found] = {}
        for name in names:
            row = listed.get(name.key)
            entry = entries[name.key] = self.store.find(name) if self.store else None
            if entry:
                known = self.memory.known_as(entry)
                result[name.key] = Found(entry.digest, entry.size, known, entry.problem, on_disk=True)
            elif row and self.store and not row.get("remote_host"):
                raise OllamaError(
                    "store_mismatch",
                    f"models_dir: the server has {name}, {self.store.root} has not; give the server's OLLAMA_MODELS",
                )
            elif row:
                digest = "sha256:" + str(row.get("digest", ""))
                result[name.key] = Found(digest, int(row.get("size", 0)), frozenset([digest]))
            else:
                result[name.key] = Found()
        if self.store:
            blobs = [blob for entry in entries.values() if entry for blob in entry.blobs]
            seen = audit(self.store, blobs, self.memory, mode=verify)
            self._count(seen)
            for key, entry in entries.items():
                if entry:
                    result[key].damage = tuple(seen.damage[b.digest] for b in entry.blobs if b.digest in seen.damage)
        return result

    def _count(self, seen: Audit) -> None:
        self.audit.hashed_blobs += seen.hashed_blobs
        self.audit.hashed_bytes += seen.hashed_bytes

    def offer(self, source: Origin, name: Name) -> Offer:
        """Ask a registry or a bundle once; a registry that did not answer is not asked again."""
        key = (source, name.key)
        if source in self._dead:
            raise OllamaError("registry_unreachable", f"{source} did not answer before")
        if key not in self._offers:
            try:
                self._offers[key] = (
                    source.offer(name) if isinstance(source, BundleSource) else self._look_up(source, name)
                )
            except OllamaError as exc:
                self._offers[key] = exc
                if exc.code == "registry_unreachable":
                    self._dead.add(source)
        found = self._offers[key]
        if isinstance(found, OllamaError):
            raise found
        return found

    def _look_up(self, source: Source, name: Name) -> Offer:
        return look_up(source, name, lists=self.lists, environment=self.options.environment, until=self._deadline())

    # --- planning

    def plan(self, wanted: Wanted, found: t.Mapping[str, Found]) -> Plan:
        """Decide what one model needs; asks registries only if something has to come from there.

        Where no registry can give what is wanted, the plan has the failure.

        :raises OllamaError: where a bundle cannot; nothing has been changed by then.
        """
        before = found[wanted.name.key]
        plan = Plan(wanted, before)
        if wanted.state == "absent":
            plan.delete = bool(before.digest or before.on_disk)
            return plan
        if not before.digest and not before.on_disk:
            plan.pull = "pull"
        elif not before.intact:
            plan.pull = "repair"
        elif wanted.pin and wanted.pin not in before.digests:
            plan.pull = "replace"
        try:
            if not plan.pull and wanted.state == "latest" and not wanted.pin:
                plan.pull = "" if self._is_latest(wanted.name, before, plan.notes) else "update"
            if plan.pull:
                self._find_sources(plan)
        except OllamaError as exc:
            if self.supply:
                # A bundle is taken as a whole or not at all.
                raise
            return Plan(wanted, before, failure=exc, notes=plan.notes)
        plan.copies = tuple(
            alias
            for alias in wanted.aliases
            if plan.pull or not found[alias.key].intact or found[alias.key].digest != before.digest
        )
        return plan

    def _is_latest(self, name: Name, before: Found, notes: list[str]) -> bool:
        """Compare with upstream, or where that cannot be reached with trusted mirrors."""
        failures = []
        sources = self._sources(name)
        for source in reversed(sources):
            try:
                offer = self.offer(source, name)
            except OllamaError as exc:
                failures.append(exc)
                if len(sources) > 1 and not self.options.mirrors_trusted:
                    notes.append(f"{name}: not updated: {_unverified(source, exc)}")
                    return True
                continue
            return offer.digest in before.digests or offer.chosen.digest in before.digests
        raise _worst(failures)

    def _sources(self, name: Name) -> list[Origin]:
        if self.supply:
            return [self.supply]
        upstream = Source(name.host, self.options.insecure)
        # A mirror serves the public registry's names: other hosts' models would be different ones under the same path.
        return [*self.options.mirrors, upstream] if name.host == DEFAULT_HOST else [upstream]

    def _find_sources(self, plan: Plan) -> None:
        """Fill a plan's candidates: the sources, in order, that have what is wanted."""
        wanted, name = plan.wanted, plan.wanted.name
        sources = self._sources(name)
        upstream = sources[-1]
        # A repair brings back what was there, even if the tag has moved on since.
        old = plan.before.digest if plan.pull == "repair" and not wanted.pin else ""
        right = {wanted.pin} if wanted.pin else {old} - {""}
        failures: list[OllamaError] = []
        if not wanted.pin and len(sources) > 1:
            try:
                right.add(self.offer(upstream, name).chosen.digest)
            except OllamaError as exc:
                if self.options.mirrors_trusted:
                    plan.notes.append(
                        f"{name}: {upstream} cannot be asked ({exc.code}); the digest that a mirror offers is trusted"
                    )
                    right = set()
                elif not right:
                    plan.unverified = OllamaError("mirror_unverified", f"{name}: {_unverified(upstream, exc)}")
                    sources = [upstream]
        for source in sources:
            try:
                offer = self._best_offer(source, name, right)
            except OllamaError as exc:
                failures.append(exc)
                # A repair removes what is damaged first: only for content that is known to be there.
                unsure = exc.code in OF_THE_WAY and not wanted.pin and plan.pull != "repair"
                if source == upstream and (unsure or exc.code == "registry_refused"):
                    # The server can sign its requests and may have another way out: it is asked itself.
                    plan.candidates.append((source, None))
                    plan.notes += [f"{exc.message}; left to the server"] * (exc.code != "registry_refused")
                continue
            if right and not any(map(offer.satisfies, right)) and (wanted.pin or source != upstream):
                what = f"pinned is {wanted.pin}" if wanted.pin else f"expected is {' or '.join(sorted(right))}"
                failures.append(
                    OllamaError(
                        "digest_not_offered",
                        f"{name}: {what}, but {source} offers {offer.digest}",
                        name=str(name),
                        pinned=wanted.pin,
                        offered=offer.digest,
                        source=str(source),
                    )
                )
                continue
            plan.candidates.append((source, offer))
        if not plan.candidates:
            raise plan.unverified or _worst(failures)
        if plan.unverified:
            plan.notes.append(plan.unverified.message)
        plan.notes += [exc.message for exc in failures if exc.code == "digest_not_offered"]
        if old:
            plan.candidates.sort(key=lambda pair: not (pair[1] and pair[1].satisfies(old)))

    def _best_offer(self, source: Origin, name: Name, right: t.Collection[str]) -> Offer:
        """Return what a source has under the tag, or a mirror under a digest.

        The mirror's tag may be another by now, or a list that this server cannot read; the manifest is still there.
        """
        offer = self.offer(source, name)
        readable = self.lists or not offer.variants
        if source in self.options.mirrors and not (readable and (not right or any(map(offer.satisfies, right)))):
            for digest in sorted(right) or [*offer.originals, offer.chosen.digest]:
                tag = digest.replace(":", "-")
                with contextlib.suppress(OllamaError):
                    return replace(self.offer(source, replace(name, tag=tag)), tag=tag)
        return offer

    def missing_bytes(self, plans: t.Iterable[Plan]) -> tuple[int, int]:
        """Return the bytes that pulls still have to write, and how many of them take room that is taken already."""
        need: dict[str, int] = {}
        room: dict[str, int] = {}
        have: dict[str, dict[str, t.Any]] = {}
        if self.store and self.store.readable and not self.supply:
            have = {part["digest"]: part for part in self.store.partials()}
        for plan in plans:
            offer = plan.candidates[0][1] if plan.candidates else None
            bad = {damage.blob.digest for damage in plan.before.damage}
            for digest, size in (offer.blobs if offer else {}).items():
                there = self.store.blob_info(digest) if self.store else None
                if digest in bad or not there:
                    part = have.get(digest, {"completed": 0, "disk_bytes": 0})
                    need[digest] = max(0, size - part["completed"])
                    room[digest] = part["disk_bytes"] - part["completed"]
                    if there:  # a damaged blob goes before the pull
                        room[digest] += there.st_blocks * 512
        return sum(need.values()), sum(min(need[digest], max(0, room[digest])) for digest in need)

    def check_supply(self, pulls: t.Sequence[Plan]) -> None:
        """Refuse a bundle that is not whole, before anything is changed; one that nothing comes from is not read."""
        if self.supply and pulls:
            self.progress.note(f"comparing all of {self.supply} with its sums")
            self.supply.read(hash_all=True)
            self.progress.note("")

    # --- acting

    def apply(self, plan: Plan) -> Outcome:
        """Carry out one plan; a failure is part of the outcome, so that the other models get their turn."""
        outcome = Outcome()
        started = time.monotonic()
        name = plan.wanted.name
        try:
            if plan.failure:
                raise plan.failure
            if plan.delete:
                self._delete(name)
                outcome.actions.append("removed")
            if plan.pull:
                outcome.damage = [damage.to_dict() for damage in plan.before.damage]
                self._pull(plan, outcome)
            for alias in plan.copies:
                self.client.copy(name, alias)
                outcome.actions.append(f"named it {alias}, too")
        except OllamaError as exc:
            outcome.failure = exc
        outcome.seconds = round(time.monotonic() - started, 3)
        return outcome

    def _delete(self, name: Name) -> None:
        """Remove a model; one whose manifest the server cannot read is removed as a file."""
        try:
            self.client.delete(name)
        except OllamaError as exc:
            if exc.details.get("status") != 500 or not self.store:
                raise
        self.memory.origins.pop(name.key, None)
        for _try in range(_SPELLINGS) if self.store else ():
            entry = self.store.find(name) if self.store else None
            if entry and self.store:
                self.store.remove_tag(entry)

    def _pull(self, plan: Plan, outcome: Outcome) -> None:
        wanted = plan.wanted
        running = plan.before.damage and wanted.name.key in self._running()
        failures: list[str] = []
        for source, offer in plan.candidates:
            last = source == plan.candidates[-1][0]
            try:
                self._pull_from(source, offer, plan, outcome, patient=last)
            except OllamaError as exc:
                failures.append(f"{source}: {exc.message}")
                outcome.actions.append(f"gave up on {source}: {exc.message}")
                if last or exc.code not in _SOURCE_FAILED:
                    text = "; ".join(failures) if len(failures) > 1 else exc.message
                    if plan.unverified:
                        raise OllamaError(plan.unverified.code, f"{plan.unverified.message}; {text}") from None
                    raise OllamaError(
                        exc.code, f"{wanted.name}: {text}", **dict(exc.details, name=str(wanted.name))
                    ) from None
                continue
            outcome.source = str(source)
            outcome.actions.append(f"{_VERBS[plan.pull]} from {source}, {human(outcome.bytes_pulled)} fetched")
            break
        if running:
            # A loaded runner still has the damaged file mapped.
            self.client.generate({"model": str(wanted.name), "keep_alive": 0}, timeout=60)
            outcome.actions.append("unloaded the damaged copy")

    def _running(self) -> set[str]:
        return {key for key in (_key(row) for row in self.client.running()) if key}

    def clear(self, plans: t.Iterable[Plan]) -> None:
        """Remove what stands in the way of repairs: the server would take a bad file for the blob itself.

        All at once and before any pull: what one repair has brought, another may need, too.
        """
        for plan in plans:
            try:
                self._clear(plan)
            except OllamaError as exc:
                plan.failure = exc

    def _clear(self, plan: Plan) -> None:
        for damage in plan.before.damage:
            self._unlink_blob(damage.blob.digest)
        entry = self.store.find(plan.wanted.name) if self.store and plan.before.problem else None
        if entry and self.store:
            if entry.digest:
                self._unlink_blob(entry.digest)
            self.store.remove_tag(entry)

    def _unlink_blob(self, digest: str) -> None:
        self.memory.verified.pop(digest, None)
        if self.store:
            self.store.remove_blob(digest)

    def _bring(self, supply: BundleSource, plan: Plan, outcome: Outcome) -> None:
        """Have a model from the bundle, and see that the server has it then."""
        name = plan.wanted.name
        size = plan.candidates[0][1].chosen.size if plan.candidates[0][1] else 0

        def watch(digest: str, count: int) -> None:
            if time.monotonic() > self._deadline():
                raise OllamaError("deadline", f"{name}: the deadline is over; whole blobs are kept for the next time")
            event = {"status": f"copying {digest[7:19]}", "digest": digest, "completed": count}
            self.progress.update(str(name), size, event)

        if not self.store:
            raise OllamaError("store_unreadable", "models_dir: a bundle needs a store; give OLLAMA_MODELS, or become")
        outcome.bytes_pulled += supply.import_(name, self.store, self.memory, watch)
        self.progress.update(str(name), size, {"status": "success"})
        if name.key not in list_models(self.client):
            raise OllamaError(
                "store_mismatch",
                f"models_dir: {name} was brought to {self.store.root}, but the server does not list it; give the"
                " server's OLLAMA_MODELS",
            )

    def _pull_from(self, source: Origin, offer: Offer | None, plan: Plan, outcome: Outcome, *, patient: bool) -> None:
        """Pull from one source until every blob is right; a source that cannot do that loses what it brought."""
        if isinstance(source, BundleSource):
            return self._bring(source, plan, outcome)
        name = plan.wanted.name
        target = name if source.host == name.host else name.at(source.host)
        if offer and offer.tag:
            target = replace(target, tag=offer.tag)
        if target != name and str(target) not in self.memory.pending:
            self.memory.pending.append(str(target))
            self.memory.save()
        try:
            for attempt in range(1 + _REFETCHES):
                damage = self._pull_and_check(name, target, source, offer, outcome, patient=patient)
                if not damage:
                    break
                outcome.damage += [item.to_dict() for item in damage if item.to_dict() not in outcome.damage]
                outcome.actions += [f"{source} sent damage: {item}" for item in damage]
                for item in damage:
                    self._unlink_blob(item.blob.digest)
                if attempt == _REFETCHES:
                    raise OllamaError(
                        "digest_mismatch",
                        f"{source} sent damaged bytes {1 + _REFETCHES} times: {damage[0]}",
                        source=str(source),
                        damage=[item.to_dict() for item in damage],
                    )
            self._check_identity(target, source, offer, plan)
        except OllamaError:
            if target != name or plan.pull == "pull":
                self._discard(target)
            raise
        if target != name:
            self.client.copy(target, name)
            self.client.delete(target)
            self.memory.pending.remove(str(target))

    def _pull_and_check(
        self, name: Name, target: Name, source: Source, offer: Offer | None, outcome: Outcome, *, patient: bool
    ) -> list[Damage]:
        here = self._here(offer)
        try:
            self._stream(str(name), target, source, offer, patient=patient)
        except OllamaError as exc:
            if exc.code != "digest_mismatch" or not self.store or not offer:
                raise
            outcome.bytes_pulled += self._fetched(offer, here)
            # The server names and deletes only the first bad blob of a pull; it would trust the others for ever.
            bad = audit(self.store, offer.chosen.blobs, self.memory).damage.values()
            named = [Damage(blob, "content") for blob in offer.chosen.blobs if f"want {blob.digest}" in exc.message]
            return named + [item for item in bad if item.kind != "missing" and item.blob not in [n.blob for n in named]]
        outcome.bytes_pulled += self._fetched(offer, here)
        entry = self.store.find(target) if self.store else None
        if not entry or not self.store:
            return []
        if entry.problem:
            raise OllamaError("bad_manifest", f"{target}: {entry.problem}")
        seen = audit(self.store, entry.blobs, self.memory, mode="none" if self.options.verify == "none" else "changed")
        self._count(seen)
        return list(seen.damage.values())

    def _check_identity(self, target: Name, source: Source, offer: Offer | None, plan: Plan) -> None:
        """Compare what arrived with what was promised: the tag may have moved between look-up and pull."""
        name, pin = plan.wanted.name, plan.wanted.pin
        entry = self.store.find(target) if self.store else None
        if entry:
            got, known = entry.digest, entry.digests
        else:
            rows = [row for row in self.client.tags() if _key(row) == target.key]
            got = "sha256:" + str(rows[0].get("digest")) if rows else ""
            known = frozenset([got])
        want = pin or (offer.chosen.digest if offer and target != name else None)
        if want and want not in known and not (offer and offer.digest in known and offer.satisfies(want)):
            raise OllamaError(
                "digest_mismatch",
                f"{name}: {'pinned' if pin else 'promised'} is {want}, but {source} gave {got or 'nothing'}",
                source=str(source),
                pinned=want,
                offered=got,
            )
        if offer:
            self.memory.origins[name.key] = {"registry": offer.digest, "variant": got}

    def _discard(self, target: Name) -> None:
        """Take back a half-made or wrong model, so that nothing by that name looks present; partials stay."""
        with contextlib.suppress(OllamaError):
            self.client.delete(target)
        if str(target) in self.memory.pending:
            self.memory.pending.remove(str(target))

    def drop_leftovers(self, declared: t.Container[str]) -> None:
        """Remove aliases that an interrupted run of ours left, and only those; last, as blobs may hang on them."""
        for text in list(self.memory.pending):
            key = _key({"name": text})
            # A damaged state file may hold any text.
            if key and key not in declared:
                self.client.delete(parse(text, allow_cloud=True))
            self.memory.pending.remove(text)

    def _here(self, offer: Offer | None) -> dict[str, int]:
        """Return the bytes of each offered blob that are on the disk already."""
        if not self.store or not offer:
            return {}
        partial = {part["digest"]: part["completed"] for part in self.store.partials()}
        return {
            digest: size if self.store.blob_info(digest) else min(size, partial.get(digest, 0))
            for digest, size in offer.blobs.items()
        }

    def _fetched(self, offer: Offer | None, here: t.Mapping[str, int]) -> int:
        if not offer:
            return 0
        return sum(size - here.get(digest, 0) for digest, size in offer.blobs.items() if digest in here)

    def _stream(self, label: str, target: Name, source: Source, offer: Offer | None, *, patient: bool) -> None:
        """Pull, reconnecting where that resumes the download."""
        size = offer.chosen.size if offer else 0
        # The server says nothing while it hashes what it fetched: allow for a disk of 50 MB/s.
        silence = self.options.stall_timeout + size / 50e6
        tries = _TRIES if patient else 2
        for attempt in range(1, tries + 1):
            watch = _Watch(self.options.stall_timeout, self._deadline(), str(target))
            ahead: threading.Thread | None = None
            try:
                events = self.client.pull(target, insecure=source.insecure, timeout=silence)
                # Only a closed connection makes the server drop a download that hangs.
                with contextlib.closing(events):
                    for event in events:
                        watch(event)
                        self.progress.update(label, size, event)
                        if event.get("status") == "verifying sha256 digest" and not ahead and offer:
                            ahead = threading.Thread(target=self._hash_ahead, args=(offer,))
                            ahead.start()
                return
            except OllamaError as exc:
                if exc.code not in _TRANSIENT or attempt == tries:
                    raise
                self.progress.note(f"{label}: {exc.message}; trying again")
            finally:
                if ahead:
                    ahead.join()
            # Also covers a server that is being restarted in mid-pull.
            time.sleep(min(2**attempt * 0.25, 10))
            self.client.wait(60)

    def _hash_ahead(self, offer: Offer) -> None:
        """Hash what was fetched while the server does the same: the files have their names by then."""
        if self.store and self.options.verify != "none":
            self._count(audit(self.store, offer.chosen.blobs, self.memory))

    def _deadline(self) -> float:
        return self._started + self.options.deadline if self.options.deadline else float("inf")


class _Watch:
    """Raise when a pull's bytes stop growing, or when time is up."""

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
                "deadline", f"{self.what}: the deadline is over; what was fetched is kept and resumed next time"
            )
        if now - self.moved > self.stall_timeout:
            raise OllamaError("stalled", f"{self.what}: no byte for {self.stall_timeout:g} s")


def _unverified(upstream: Origin, exc: OllamaError) -> str:
    """Return why a mirror is not used."""
    return (
        f"{upstream} cannot be asked ({exc.code}), so nothing confirms the digest that a mirror offers; pin the model,"
        " lock the models with the playbook kaido.ollama.lock, or set ollama_mirrors_trusted: true"
    )


def _worst(failures: list[OllamaError]) -> OllamaError:
    """Choose what to tell: a wrong digest beats a missing tag beats an unreachable source."""
    order = ("digest_not_offered", "bad_manifest", "tag_missing", "tag_unsuitable", "tls", "registry_refused")
    best = min(failures, key=lambda exc: order.index(exc.code) if exc.code in order else len(order))
    others = [exc.message for exc in failures if exc is not best]
    return OllamaError(best.code, "; ".join([best.message, *others]), **best.details)


def _key(row: t.Mapping[str, t.Any]) -> str | None:
    try:
        return parse(row.get("name") or row.get("model"), allow_cloud=True).key
    except OllamaError:
        return None


def list_models(client: Client) -> dict[str, dict[str, t.Any]]:
    """Return the server's models by key; 0.40.0 lists a tag once a variant, so the server's preference counts."""
    rows: dict[str, dict[str, t.Any]] = {}
    for row in client.tags():
        key = _key(row)
        if key and (key not in rows or row.get("details", {}).get("runner") == "llamacpp"):
            rows[key] = row
    return rows


def converge(models: Models, wanted: t.Sequence[Wanted], *, server_up: bool, check_mode: bool) -> dict[str, t.Any]:
    """Bring the declared models to their states and return the module's result.

    :param server_up: False in check mode on a host that has no server yet: then only what is on the disk is installed.
    :raises OllamaError: before anything changes for what cannot work; afterwards with ``result`` among the details.
    """
    options = models.options
    names = [name for item in wanted for name in (item.name, *item.aliases)]
    listed = list_models(models.client) if server_up else {}
    found = models.look(names, listed, verify=options.verify)
    plans = [models.plan(item, found) for item in wanted]
    pulls = [plan for plan in plans if plan.pull]
    prune = _undeclared(models, names, listed) if options.exclusive else []
    models.warnings += sorted({note for plan in plans for note in plan.notes})

    offers = ((plan, plan.candidates[0][1]) for plan in pulls)
    sizes = {str(plan.wanted.name): offer.chosen.size for plan, offer in offers if offer}
    models.warnings += filter(None, (too_big(name, size, options.vram) for name, size in sizes.items()))

    missing, reused = models.missing_bytes(pulls)
    free = _check_space(models.store, missing, reused) if models.store else None
    if options.detach and pulls and not check_mode:
        models.memory.save()
        return {"changed": False, "pending": True, "warnings": models.warnings}

    models.check_supply(pulls)
    after = dict(found)
    failures: list[OllamaError] = []
    if check_mode:
        outcomes = [_forecast(plan) for plan in plans]
        for plan in plans:
            _predict(plan, after)
    else:
        outcomes = _act(models, plans)
        for name in prune:
            try:
                models.client.delete(name)
            except OllamaError as exc:
                failures.append(exc)
        if server_up:
            models.drop_leftovers({name.key for name in names})
        if any(outcome.actions or outcome.failure for outcome in outcomes):
            after = models.look(
                names, list_models(models.client), verify="none" if options.verify == "none" else "changed"
            )
        models.memory.save()

    rows = [_row(plan, outcome, found, after) for plan, outcome in zip(plans, outcomes)]
    before_state = {str(name): found[name.key].digest or None for name in names}
    after_state = {str(name): after[name.key].digest or None for name in names}
    for name in prune:
        before_state[str(name)] = "sha256:" + str(listed[name.key].get("digest"))
        after_state[str(name)] = None
    result = {
        "changed": bool(prune) or any(row["changed"] for row in rows),
        "models": rows,
        "removed": [str(name) for name in prune],
        "bytes_pulled": sum(row["bytes_pulled"] for row in rows),
        "bytes_missing": missing,
        "bytes_free": free,
        "hashed_bytes": models.audit.hashed_bytes,
        "warnings": models.warnings,
        "diff": {"before": before_state, "after": after_state},
    }
    failures += [outcome.failure for outcome in outcomes if outcome.failure]
    if not failures and not check_mode:
        failures += [
            OllamaError(
                "not_converged", f"{plan.wanted.name}: still not right after all was done", name=str(plan.wanted.name)
            )
            for plan in plans
            if after[plan.wanted.name.key].intact != (plan.wanted.state != "absent")
        ]
    if failures:
        message = "; ".join(exc.message for exc in failures)
        if len(failures) > 1:
            message = f"{len(failures)} models failed: {message}"
        raise OllamaError(failures[0].code, message, **dict(failures[0].details, result=result))
    return result


def _check_space(store: Store, missing: int, reused: int) -> int:
    """Return the free bytes; raises where they are not enough."""
    free = store.free_bytes()
    if missing > free + reused:
        raise OllamaError(
            "disk_full",
            f"the models need {human(missing)} more, but {human(free)} are free where {store.root} is",
            needed_bytes=missing,
            free_bytes=free,
        )
    return free


def _undeclared(models: Models, names: t.Sequence[Name], listed: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[Name]:
    kept = {name.key for name in (*names, *models.options.keep)}
    if not names:
        models.warnings.append("exclusive: no model is declared, so nothing is removed")
        return []
    return [parse(row["name"], allow_cloud=True) for key, row in sorted(listed.items()) if key not in kept]


def _act(models: Models, plans: t.Sequence[Plan]) -> list[Outcome]:
    """Carry out the plans: removals first, as they may make the room that pulls need."""
    pulls = [plan for plan in plans if plan.pull]
    models.progress.expect(
        [(str(p.wanted.name), p.candidates[0][1].chosen.size if p.candidates[0][1] else 0) for p in pulls]
    )
    done = {id(plan): models.apply(plan) for plan in plans if not plan.pull}
    models.clear(pulls)
    with concurrent.futures.ThreadPoolExecutor(models.options.parallel) as pool:
        done.update(zip(map(id, pulls), pool.map(models.apply, pulls)))
    return [done[id(plan)] for plan in plans]


def _forecast(plan: Plan) -> Outcome:
    outcome = Outcome(damage=[damage.to_dict() for damage in plan.before.damage], failure=plan.failure)
    if plan.delete:
        outcome.actions.append("would be removed")
    if plan.pull:
        source, offer = plan.candidates[0]
        size = human(offer.chosen.size) if offer else "unknown size"
        outcome.actions.append(f"would be {_VERBS[plan.pull]} from {source}, {size}")
        outcome.source = str(source)
    outcome.actions += [f"would be named {alias}, too" for alias in plan.copies]
    return outcome


def _predict(plan: Plan, after: dict[str, Found]) -> None:
    key = plan.wanted.name.key
    if plan.delete:
        after[key] = Found()
    if plan.pull:
        offer = plan.candidates[0][1]
        after[key] = Found(offer.chosen.digest, offer.chosen.size) if offer else Found("unknown")
    for alias in plan.copies:
        after[alias.key] = after[key]


def _row(plan: Plan, outcome: Outcome, found: t.Mapping[str, Found], after: t.Mapping[str, Found]) -> dict[str, t.Any]:
    """Return one model's part of the result; changed compares states, not what was called."""
    now = after[plan.wanted.name.key]
    concerned = [name.key for name in (plan.wanted.name, *plan.wanted.aliases)]
    return {
        "name": str(plan.wanted.name),
        "state": plan.wanted.state,
        "digest_before": plan.before.digest or None,
        "digest_after": now.digest or None,
        "size": now.size,
        "changed": any(found[key].state != after[key].state for key in concerned),
        "actions": outcome.actions,
        "bytes_pulled": outcome.bytes_pulled,
        "seconds": outcome.seconds,
        "source": outcome.source,
        "damage": outcome.damage,
    }
