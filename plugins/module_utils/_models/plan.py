# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what each declared model needs: states and offers in, typed steps out. Pure: no HTTP, no disk.

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
    """A model as it is: on the server, on the disk, or nowhere."""

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
        """The part that counts as a change where it differs."""
        return self.digest, self.intact, bool(self.digest) or self.on_disk


@dataclass(frozen=True)
class Candidate:
    """A source that a model can come from; the offer is None if only the server can query it."""

    source: ModelSource
    offer: Offer | None

    @property
    def size(self) -> int:
        """Bytes of the model, 0 where they are unknown."""
        return self.offer.chosen.size if self.offer else 0


@dataclass(frozen=True)
class Answer:
    """The reply of a source about one tag."""

    source: ModelSource
    offer: Offer | None = None
    error: OllamaError | None = None


@dataclass(frozen=True)
class Answers:
    """The replies about one model, mirrors first.

    :ivar confirmation: the reply of the public registry, which confirms those of mirrors; None where it is not needed.
    """

    upstream: ModelSource
    answers: tuple[Answer, ...]
    confirmation: Answer | None = None


class Reason(enum.Enum):
    """Why a model is fetched; the value is what the result reports afterwards."""

    MISSING = "pulled"
    DAMAGED = "repaired"
    NOT_PINNED = "replaced by the pinned one"
    OUTDATED = "updated"


@dataclass(frozen=True)
class Pull:
    """Fetch a model from the first candidate that can provide it.

    :ivar unverified: why mirrors are not used.
    """

    reason: Reason
    candidates: tuple[Candidate, ...]
    unverified: OllamaError | None = None


@dataclass(frozen=True)
class Build:
    """Build a custom model.

    :ivar prediction: the result that is predicted.
    """

    prediction: t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Copy:
    """Give a model another name."""

    alias: Name


@dataclass(frozen=True)
class Delete:
    """Remove a model."""


Step = t.Union[Pull, Build, Copy, Delete]


@dataclass
class Plan:
    """The steps for one model; none where it is as declared.

    :ivar failure: why nothing can be done for this model; the others are not affected.
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
        """Whether only the server can tell if a model that is there is the latest one."""
        pull = self.pull
        return bool(pull and pull.reason is Reason.OUTDATED and not pull.candidates[0].offer)

    @property
    def takes_long(self) -> bool:
        """Whether one of the steps transfers models."""
        return any(isinstance(step, (Pull, Build)) for step in self.steps)


def reason_to_pull(model: DeclaredModel, before: Found) -> Reason | None:
    """Return why a model has to be fetched, as far as its state alone shows that."""
    if model.state == "absent" or model.recipe:
        return None
    if not before.digest and not before.on_disk:
        return Reason.MISSING
    if not before.intact:
        return Reason.DAMAGED
    return Reason.NOT_PINNED if model.pin and model.pin not in before.digests else None


def may_be_outdated(model: DeclaredModel) -> bool:
    """Return whether only a source can tell if a model that is there is the declared one."""
    return model.state == "latest" and not model.pin


def is_outdated(
    model: DeclaredModel, before: Found, answers: t.Sequence[Answer], *, trusted: bool
) -> tuple[bool, list[str]]:
    """Compare a model with the first reply, the public registry first; returns notes, too.

    :param answers: of which all but the last are errors.
    :param trusted: whether mirrors are trusted where the public registry does not reply.
    :raises OllamaError: where no source can be queried.
    """
    for answer in answers:
        offer = answer.offer
        if offer:
            return offer.digest not in before.digests and offer.chosen.digest not in before.digests, []
    errors = [answer.error for answer in answers if answer.error]
    if not trusted and answers[0].source.has_mirrors:
        return False, [f"{model.name}: not updated: {unconfirmed(answers[0].source, errors[0])}"]
    if all(error.code in INDECISIVE_CODES for error in errors):
        # The server can sign its requests and may have another route: it compares by a pull.
        return True, []
    raise worst(errors)


@dataclass(frozen=True)
class Accepted:
    """The digests that a source may offer; none means any.

    :ivar unverified: why mirrors must not be used.
    """

    digests: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    unverified: OllamaError | None = None


def accepted(
    model: DeclaredModel, before: Found, reason: Reason, confirmation: Answer | None, *, trusted: bool
) -> Accepted:
    """Return which digests are right for a model: its pin, or what it was before, or what the public registry has."""
    if model.pin:
        return Accepted(frozenset([model.pin]))
    # A repair restores what was there, even if the tag has moved on since.
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
    """Return the step that fetches a model, with notes; raises OllamaError where no source has what is declared."""
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
    """Add the source of a reply to the candidates, or the reason why it is none to the failures."""
    offer = answer.offer
    if not offer:
        exc = t.cast(OllamaError, answer.error)
        choice.failures.append(exc)
        # A repair removes what is damaged first: only for content that is known to be there.
        unsure = exc.code in INDECISIVE_CODES and not model.pin and reason is not Reason.DAMAGED
        if is_upstream and (unsure or exc.code == "registry_refused"):
            # The server can sign its requests and may have another route: it queries the registry itself.
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
    """Return the steps for aliases: all of them where the model is fetched or built, else those that differ."""
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
    """Choose what to report: a wrong digest before a missing tag before an unreachable source."""
    order = ("digest_not_offered", "manifest_invalid", "tag_missing", "tag_refused", "tls_failed", "registry_refused")
    best = min(failures, key=lambda exc: order.index(exc.code) if exc.code in order else len(order))
    others = [_briefly(exc, best) for exc in failures if exc is not best]
    return OllamaError(best.code, "; ".join([best.message, *others]), **best.details)


def _briefly(exc: OllamaError, best: OllamaError) -> str:
    """Return a further failure without what the first message says already."""
    start, _but, end = exc.message.partition(", but ")
    if exc.code == best.code and end and best.message.startswith(f"{start}, but "):
        return end
    # The source only: how it could be reached is another matter.
    where = exc.message.split(": ", 1)[0]
    return f"{where}: {exc.code}" if exc.code in INDECISIVE_CODES and best.code not in INDECISIVE_CODES else exc.message
