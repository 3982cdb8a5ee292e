# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the steps of each declared model from its state and the offers of its sources. Pure: no HTTP, no disk.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import enum
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .._core.name import Name, short_digest
from .._store.layout import Damage
from .declaration import DeclaredModel
from .registry import INDECISIVE_CODES, Offer

if t.TYPE_CHECKING:
    from .sources import ModelSource


@dataclass
class Found:
    """The state of a model: on the server, on the disk, or missing.

    :ivar digest: the digest of its manifest; empty if the model is missing.
    :ivar size: bytes.
    :ivar digests: all digests that identify it, such as those of its variants.
    :ivar problem: why its manifest cannot be used.
    """

    digest: str = ""
    size: int = 0
    digests: frozenset[str] = frozenset()
    problem: str | None = None
    damage: tuple[Damage, ...] = ()
    on_disk: bool = False

    @property
    def intact(self) -> bool:
        """Whether the model exists without known damage."""
        return bool(self.digest) and not self.problem and not self.damage

    @property
    def state(self) -> tuple[str, bool, bool]:
        """The part of the state whose difference counts as a change."""
        return self.digest, self.intact, bool(self.digest) or self.on_disk


@dataclass(frozen=True)
class Candidate:
    """A source that can provide a model. The offer is None if only the server can query the source."""

    source: ModelSource
    offer: Offer | None

    @property
    def size(self) -> int:
        """The size of the model in bytes; 0 if it is unknown."""
        return self.offer.chosen.size if self.offer else 0


@dataclass(frozen=True)
class Answer:
    """The answer of a source about one tag: an offer or an error."""

    source: ModelSource
    offer: Offer | None = None
    error: OllamaError | None = None


@dataclass(frozen=True)
class Answers:
    """The answers about one model, mirrors first.

    :ivar confirmation: the answer of the public registry, which confirms those of mirrors; None if it is not required.
    """

    upstream: ModelSource
    answers: tuple[Answer, ...]
    confirmation: Answer | None = None


class Reason(enum.Enum):
    """The reason for a pull; the value is the text in the result."""

    MISSING = "pulled"
    DAMAGED = "repaired"
    NOT_PINNED = "replaced by the pinned one"
    OUTDATED = "updated"


@dataclass(frozen=True)
class Pull:
    """Fetch a model from the first candidate that can provide it.

    :ivar unverified: the error that prevents the use of mirrors.
    """

    reason: Reason
    candidates: tuple[Candidate, ...]
    unverified: OllamaError | None = None


@dataclass(frozen=True)
class Build:
    """Build a custom model.

    :ivar prediction: the predicted result.
    """

    prediction: t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Copy:
    """Copy a model to another name."""

    alias: Name


@dataclass(frozen=True)
class Delete:
    """Remove a model."""


Step = t.Union[Pull, Build, Copy, Delete]


@dataclass
class Plan:
    """The steps for one model; none if it has the declared state.

    :ivar failure: why there is no plan for this model; other models are not affected.
    """

    model: DeclaredModel
    before: Found
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    failure: OllamaError | None = None

    @property
    def pull(self) -> Pull | None:
        """The step that fetches the model, if there is one."""
        return next((step for step in self.steps if isinstance(step, Pull)), None)

    @property
    def is_undecided(self) -> bool:
        """Whether only the server can determine if an existing model is the latest one."""
        pull = self.pull
        return bool(pull and pull.reason is Reason.OUTDATED and not pull.candidates[0].offer)

    @property
    def takes_long(self) -> bool:
        """Whether one of the steps transfers models."""
        return any(isinstance(step, (Pull, Build)) for step in self.steps)


def reason_to_pull(model: DeclaredModel, before: Found) -> Reason | None:
    """Return why a model must be fetched according to its state alone, or None."""
    if model.state == "absent" or model.recipe:
        return None
    if not before.digest and not before.on_disk:
        return Reason.MISSING
    if not before.intact:
        return Reason.DAMAGED
    return Reason.NOT_PINNED if model.pin and model.pin not in before.digests else None


def may_be_outdated(model: DeclaredModel) -> bool:
    """Return whether only a source can determine if an existing model is the declared one."""
    return model.state == "latest" and not model.pin


def is_outdated(
    model: DeclaredModel, before: Found, answers: t.Sequence[Answer], *, trusted: bool
) -> tuple[bool, list[str]]:
    """Return whether a model differs from the first offer, and notes.

    :param answers: the answers of the public registry and then of mirrors; all but the last are errors.
    :param trusted: whether mirrors are trusted if the public registry does not answer.
    :raises OllamaError: if no source can be queried.
    """
    for answer in answers:
        offer = answer.offer
        if offer:
            return offer.digest not in before.digests and offer.chosen.digest not in before.digests, []
    errors = [answer.error for answer in answers if answer.error]
    if not trusted and answers[0].source.has_mirrors:
        return False, [f"{model.name}: not updated: {unconfirmed(answers[0].source, errors[0])}"]
    if all(error.code in INDECISIVE_CODES for error in errors):
        # The server can sign its requests and may have another route, so it compares the model by a pull.
        return True, []
    raise worst(errors)


@dataclass(frozen=True)
class Accepted:
    """The digests that a source may offer; empty means any.

    :ivar unverified: the error that prevents the use of mirrors.
    """

    digests: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    unverified: OllamaError | None = None


def accepted(
    model: DeclaredModel, before: Found, reason: Reason, confirmation: Answer | None, *, trusted: bool
) -> Accepted:
    """Return the accepted digests of a model: its pin, its digest before a repair, or that of the public registry.

    :param trusted: whether mirrors are trusted if the public registry does not answer.
    """
    if model.pin:
        return Accepted(frozenset([model.pin]))
    # A repair restores the previous content, even if the tag has moved since.
    digests = frozenset([before.digest] if reason is Reason.DAMAGED and before.digest else [])
    if not confirmation:
        return Accepted(digests)
    if confirmation.offer:
        return Accepted(digests | {confirmation.offer.chosen.digest})
    error = t.cast(OllamaError, confirmation.error)
    if trusted:
        note = (
            f"{model.name}: {confirmation.source} cannot be queried ({error.code}); the digest that a mirror offers is"
            " trusted"
        )
        return Accepted(notes=(note,))
    if digests:
        return Accepted(digests)
    text = f"{model.name}: {unconfirmed(confirmation.source, error)}"
    return Accepted(unverified=OllamaError("mirror_unverified", text))


@dataclass
class _Choice:
    candidates: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[OllamaError] = field(default_factory=list)


def plan_pull(
    model: DeclaredModel, before: Found, reason: Reason, replies: Answers, right: Accepted
) -> tuple[Pull, list[str]]:
    """Return the step that fetches a model, and notes.

    :raises OllamaError: if no source has the declared model.
    """
    choice = _Choice(notes=list(right.notes))
    for answer in replies.answers:
        _consider(choice, model, reason, answer, right, is_upstream=answer.source == replies.upstream)
    if not choice.candidates:
        raise right.unverified or worst(choice.failures)
    if right.unverified:
        choice.notes.append(right.unverified.message)
    choice.notes += [exc.message for exc in choice.failures if exc.code == "digest_not_offered"]
    if reason is Reason.DAMAGED and before.digest and not model.pin:
        choice.candidates.sort(key=lambda item: not (item.offer and item.offer.satisfies(before.digest)))
    return Pull(reason, tuple(choice.candidates), right.unverified), choice.notes


def _consider(
    choice: _Choice, model: DeclaredModel, reason: Reason, answer: Answer, right: Accepted, *, is_upstream: bool
) -> None:
    """Add the source of an answer to the candidates, or the reason why it is none to the failures."""
    offer = answer.offer
    if not offer:
        exc = t.cast(OllamaError, answer.error)
        choice.failures.append(exc)
        # A repair first removes the damaged content, so it requires a source that is known to have the content.
        unsure = exc.code in INDECISIVE_CODES and not model.pin and reason is not Reason.DAMAGED
        if is_upstream and (unsure or exc.code == "registry_refused"):
            # The server can sign its requests and may have another route, so it queries the registry itself.
            choice.candidates.append(Candidate(answer.source, None))
            choice.notes += [f"{exc.message}; left to the server"] * (exc.code != "registry_refused")
        return
    if right.digests and not any(map(offer.satisfies, right.digests)) and (model.pin or not is_upstream):
        digests = [model.pin] if model.pin else sorted(right.digests)
        what = f"{'pinned' if model.pin else 'expected'} is {' or '.join(map(short_digest, digests))}"
        choice.failures.append(
            OllamaError(
                "digest_not_offered",
                f"{model.name}: {what}, but {answer.source} offers {short_digest(offer.digest)}",
                pinned=model.pin,
                offered=offer.digest,
            )
        )
        return
    choice.candidates.append(Candidate(answer.source, offer))


def copies(model: DeclaredModel, found: t.Mapping[str, Found], *, renewed: bool) -> tuple[Copy, ...]:
    """Return the steps for aliases: all of them if the model is fetched or built, else those that differ."""
    digest = found[model.name.key].digest
    return tuple(
        Copy(alias)
        for alias in model.aliases
        if renewed or not found[alias.key].intact or found[alias.key].digest != digest
    )


def unconfirmed(upstream: ModelSource, exc: OllamaError) -> str:
    """Return why a mirror is not used."""
    return (
        f"{upstream} cannot be queried ({exc.code}), so nothing confirms the digest that a mirror offers; pin the "
        "model, lock the models with the playbook kaido.ollama.lock, or set ollama_mirrors_trusted: true"
    )


def worst(failures: t.Sequence[OllamaError]) -> OllamaError:
    """Return the most relevant error: a wrong digest before a missing tag before an unreachable source."""
    order = ("digest_not_offered", "manifest_invalid", "tag_missing", "tag_refused", "tls_failed", "registry_refused")
    best = min(failures, key=lambda exc: order.index(exc.code) if exc.code in order else len(order))
    others = [_briefly(exc, best) for exc in failures if exc is not best]
    return OllamaError(best.code, "; ".join([best.message, *others]), **best.details)


def _briefly(exc: OllamaError, best: OllamaError) -> str:
    """Return a further failure without the part that the first message already contains."""
    start, _but, end = exc.message.partition(", but ")
    if exc.code == best.code and end and best.message.startswith(f"{start}, but "):
        return end
    if exc.code not in INDECISIVE_CODES or best.code in INDECISIVE_CODES:
        return exc.message
    # Only the source, without the hints on how to reach it.
    return f"{exc.message.split(': ', 1)[0].rpartition(' at ')[2]}: {INDECISIVE_CODES[exc.code]}"
