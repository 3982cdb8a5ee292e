# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring declared models to their states: survey, plan, apply, survey again.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field, replace

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._gpu import memory as gpu_memory
from .act import Actor
from .custom import Builder
from .declaration import DeclaredModel
from .installed import list_models
from .memory import MemoryStates
from .plan import (
    Build,
    Delete,
    Found,
    Plan,
    Pull,
    Reason,
    Step,
    accepted,
    copies,
    is_outdated,
    may_be_outdated,
    plan_pull,
    reason_to_pull,
)
from .result import Report, predict, predicted_outcome
from .session import Session
from .sources import Offers
from .survey import check_space, missing_bytes, survey


@dataclass
class _Situation:
    """The facts and plans before any change."""

    listed: dict[str, dict[str, t.Any]]
    found: dict[str, Found]
    plans: list[Plan] = field(default_factory=list)
    undeclared: list[Name] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def pulls(self) -> list[tuple[Plan, Pull]]:
        return [(plan, plan.pull) for plan in self.plans if plan.pull]


def converge(session: Session, declared: t.Sequence[DeclaredModel], *, check_mode: bool) -> dict[str, t.Any]:
    """Bring the declared models to their states, and return the module's result.

    :raises OllamaError: before any change if a request cannot succeed, or afterwards with ``result`` in the details.
    """
    with Offers(session) as offers:
        before = _look(session, offers, declared)
        missing, reused = missing_bytes(session, ((pull, plan.before) for plan, pull in before.pulls))
        free = check_space(session.store, missing, reused) if session.store else None
        if not check_mode and _is_pending(session, before):
            session.memory.save()
            return {
                "changed": False,
                "pending": True,
                "removals": [str(name) for name in before.undeclared],
                "warnings": before.warnings,
            }
        for source in {candidate.source for _plan, pull in before.pulls for candidate in pull.candidates}:
            source.prepare()
        report = Report(before.plans, before.found, before.undeclared, before.listed, before.warnings)
        _carry_out(session, declared, before, report, check_mode=check_mode)
    declared_keys = {name.key for name in (*_modes(session, declared), *session.options.keep)}
    report.totals = {
        "undeclared": len(before.listed.keys() - declared_keys - {name.key for name in report.removed}),
        "bytes_missing": missing,
        "bytes_free": free,
        "hashed_bytes": session.audit.hashed_bytes,
    }
    return report.finish(check_mode=check_mode)


def _is_pending(session: Session, before: _Situation) -> bool:
    """Return whether the call ends before its first step because of its options ``detach`` or ``unchanged``."""
    options, plans = session.options, before.plans
    if options.unchanged:
        concerns_memory = any(plan.model.probe or plan.model.loaded is not None for plan in plans)
        return bool(
            before.undeclared
            or session.memory.pending
            or concerns_memory
            or any(plan.steps or plan.failure for plan in plans)
        )
    return options.detach and (bool(before.undeclared) or any(plan.takes_long for plan in plans))


def _modes(session: Session, declared: t.Iterable[DeclaredModel]) -> dict[Name, str]:
    return {name: model.verify or session.options.verify for model in declared for name in (model.name, *model.aliases)}


def _notes(plans: t.Sequence[Plan]) -> list[str]:
    """Return the notes of plans; those that differ only in the names of models are combined into one line."""
    models: dict[str, list[str]] = {}
    for plan in plans:
        name = f"{plan.model.name}: "
        for note in sorted(set(plan.notes)):
            text = note[len(name) :] if note.startswith(name) else note
            models.setdefault(text, []).extend([name[:-2]] * (len(text) < len(note)))
    return [f"{', '.join(names)}: {text}" if names else text for text, names in models.items()]


def _look(session: Session, offers: Offers, declared: t.Sequence[DeclaredModel]) -> _Situation:
    listed = list_models(session.client) if session.version else {}
    modes = _modes(session, declared)
    before = _Situation(listed, survey(session, modes, listed))
    before.plans = [_plan(session, offers, model, before.found) for model in declared]
    _plan_builds(session, before)
    if session.options.exclusive:
        before.undeclared = _undeclared(session, list(modes), before)
    before.warnings += _notes(before.plans)
    sizes = ((plan.model.name, pull.candidates[0].size) for plan, pull in before.pulls)
    before.warnings += filter(None, (_shortage(session, name, size) for name, size in sizes))
    return before


def _shortage(session: Session, name: Name, size: int) -> str | None:
    """Return a warning about a model that does not fit into the GPU memory.

    The architecture is that of the tag on this host: a new version of a tag rarely changes it.
    """
    vram, store, known = session.options.vram, session.store, None
    with contextlib.suppress(OSError, OllamaError):
        entry = store.find(name) if vram and store else None
        if store and entry and entry.blobs:
            weights = max(entry.blobs, key=lambda blob: blob.size)
            with store.open_blob(weights.digest) as file:
                known = gpu_memory.architecture(gpu_memory.read_gguf(t.cast("t.BinaryIO", file)))
    return gpu_memory.shortage(str(name), gpu_memory.estimate(size, known, session.options.gpu_settings, vram), vram)


def _plan(session: Session, offers: Offers, model: DeclaredModel, found: t.Mapping[str, Found]) -> Plan:
    """Plan one model except for the build of a custom one. Sources are queried only if the model may come from them."""
    before = found[model.name.key]
    if model.state == "absent":
        there = before.digest or before.on_disk
        return Plan(model, before, (Delete(),) if there else ())
    notes: list[str] = []
    steps: list[Step] = []
    trusted = session.options.mirrors_trusted
    try:
        reason = reason_to_pull(model, before)
        if not reason and may_be_outdated(model):
            outdated, notes = is_outdated(model, before, offers.latest(model), trusted=trusted)
            reason = Reason.OUTDATED if outdated else None
        if reason:
            confirmation = offers.confirmation(model)
            right = accepted(model, before, reason, confirmation, trusted=trusted)
            pull, more = plan_pull(model, before, reason, offers.gather(model, right, confirmation), right)
            steps, notes = [pull], notes + more
    except OllamaError as exc:
        if session.options.all_or_nothing:
            raise
        return Plan(model, before, notes=tuple(notes), failure=exc)
    return Plan(model, before, (*steps, *copies(model, found, renewed=bool(steps))), tuple(notes))


def builder_for(session: Session) -> Builder:
    """Return a builder of custom models."""
    client = session.client if session.version else None
    return Builder(client, session.version, session.store, session.memory, timeout=session.options.build_timeout)


def _plan_builds(session: Session, before: _Situation) -> None:
    """Add the builds to the plans of custom models, assuming that all other steps succeed."""
    if not any(plan.model.recipe for plan in before.plans):
        return
    builder = builder_for(session)
    for plan, pull in before.pulls:
        offer = pull.candidates[0].offer
        builder.expected[plan.model.name.key] = offer.chosen.digest if offer else ""
    for index, plan in enumerate(before.plans):
        recipe = plan.model.recipe
        if not recipe:
            continue
        try:
            prediction = builder.build(recipe, check_mode=True)
        except OllamaError as exc:
            before.plans[index] = replace(plan, failure=exc, steps=())
            continue
        notes = (*plan.notes, *prediction["warnings"])
        if prediction["actions"]:
            steps: tuple[Step, ...] = (Build(prediction), *copies(plan.model, before.found, renewed=True))
            before.plans[index] = replace(plan, steps=steps, notes=notes)
            builder.expected[recipe.name.key] = ""
        else:
            before.plans[index] = replace(plan, notes=notes)


def _undeclared(session: Session, names: t.Sequence[Name], before: _Situation) -> list[Name]:
    """Return the models to remove because they are not declared."""
    if not names:
        before.warnings.append("exclusive: no model is declared, so nothing is removed")
        return []
    kept = {name.key for name in (*names, *session.options.keep)}
    return [parse(row["name"], allow_cloud=True) for key, row in sorted(before.listed.items()) if key not in kept]


def _carry_out(
    session: Session, declared: t.Sequence[DeclaredModel], before: _Situation, report: Report, *, check_mode: bool
) -> None:
    """Apply the plans, or predict their results in check mode."""
    states = MemoryStates(session, declared)
    if check_mode:
        report.outcomes = [predicted_outcome(plan) for plan in before.plans]
        for plan in before.plans:
            predict(plan, report.after)
        states.apply(report, check_mode=True)
        return
    actor = Actor(session, before.plans)
    report.outcomes = actor.run(builder_for)
    failures = actor.remove(before.undeclared)
    report.removed = [name for name in before.undeclared if name.key not in failures]
    report.failures += failures.values()
    if session.version:
        actor.drop_leftovers({name.key for name in _modes(session, declared)})
    if any(outcome.actions or outcome.failure for outcome in report.outcomes):
        modes = {name: "none" if mode == "none" else "changed" for name, mode in _modes(session, declared).items()}
        report.after = survey(session, modes, list_models(session.client))
    session.memory.save()
    states.apply(report, check_mode=False)
