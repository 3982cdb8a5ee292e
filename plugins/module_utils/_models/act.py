# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply plans: removals first, then repairs and pulls, then builds.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .installed import key_of
from .plan import Copy, Delete, Plan, Pull
from .pull import Job, Outcome, Puller
from .session import Session

if t.TYPE_CHECKING:
    from .custom import Builder

# The number of places where a store can have one name: two trees and two hosts of the public registry.
_SPELLINGS = 4


class Actor:
    """Applies the plans of one call. A failure is part of the outcome of a model and does not affect other models."""

    def __init__(self, session: Session, plans: t.Sequence[Plan]) -> None:
        self.session = session
        self.plans = plans
        self.puller = Puller(session)
        self.outcomes = {id(plan): Outcome(failure=plan.failure) for plan in plans}

    def run(self, builder_for: t.Callable[[Session], Builder]) -> list[Outcome]:
        """Apply all plans and return an outcome for each."""
        pulls = [plan for plan in self.plans if plan.pull]
        customs = [plan for plan in self.plans if plan.model.recipe and plan.model.state != "absent"]
        sizes = [(str(p.model.name), p.pull.candidates[0].size) for p in pulls if p.pull]
        self.session.progress.expect(sizes + [(str(p.model.name), 0) for p in customs if p.takes_long])
        for plan in self.plans:
            if not plan.pull and (not plan.model.recipe or plan.model.state == "absent"):
                self._try(plan, self._apply)
        for plan in pulls:
            self._try(plan, self._clear)
        with concurrent.futures.ThreadPoolExecutor(self.session.options.parallel) as pool:
            list(pool.map(lambda plan: self._try(plan, self._apply), pulls))
        if customs and (pulls or any(plan.steps for plan in customs)):
            builder = builder_for(self.session)
            for plan in customs:
                self._try(plan, lambda plan: self._build(plan, builder))
        return [self.outcomes[id(plan)] for plan in self.plans]

    def _try(self, plan: Plan, step: t.Callable[[Plan], None]) -> None:
        outcome = self.outcomes[id(plan)]
        if outcome.failure:
            return
        started = time.monotonic()
        try:
            step(plan)
        except OllamaError as exc:
            outcome.failure = exc
        outcome.seconds = round(outcome.seconds + time.monotonic() - started, 3)

    def _apply(self, plan: Plan) -> None:
        """Apply the steps of a plan in order."""
        outcome = self.outcomes[id(plan)]
        for step in plan.steps:
            if isinstance(step, Delete):
                self._delete(plan.model.name)
                outcome.actions.append("removed")
            elif isinstance(step, Pull):
                outcome.damage = [damage.to_dict() for damage in plan.before.damage]
                self.puller.run(Job(plan.model, plan.before, step, outcome))
            elif isinstance(step, Copy):
                self.session.client.copy(plan.model.name, step.alias)
                outcome.actions.append(f"also named {step.alias}")

    def _clear(self, plan: Plan) -> None:
        """Remove what would prevent a repair. This precedes all pulls, as repairs can share blobs."""
        for damage in plan.before.damage:
            self.puller.remove_blob(damage.blob.digest)
        store = self.session.store
        entry = store.find(plan.model.name) if store and plan.before.problem else None
        if entry and store:
            if entry.digest:
                self.puller.remove_blob(entry.digest)
            store.remove_tag(entry)

    def _build(self, plan: Plan, builder: Builder) -> None:
        if not plan.model.recipe:
            return
        # Also without a build step: the digest of a pulled base can differ from the digest that its source offered.
        built = builder.build(plan.model.recipe, check_mode=False)
        outcome = self.outcomes[id(plan)]
        outcome.damage = [damage.to_dict() for damage in plan.before.damage]
        outcome.actions += built["actions"]
        self._apply(plan)

    def _delete(self, name: Name) -> None:
        """Remove a model. If the server cannot read its manifest, the file is removed."""
        session = self.session
        try:
            session.client.delete(name)
        except OllamaError as exc:
            if exc.details.get("status") != 500 or not session.store:
                raise
        session.memory.origins.pop(name.key, None)
        session.memory.recipes.pop(name.key, None)
        for _try in range(_SPELLINGS) if session.store else ():
            entry = session.store.find(name) if session.store else None
            if entry and session.store:
                session.store.remove_tag(entry)

    def remove(self, names: t.Iterable[Name]) -> dict[str, OllamaError]:
        """Remove undeclared models, and return the failures by model key."""
        failures = {}
        for name in names:
            try:
                self._delete(name)
            except OllamaError as exc:
                failures[name.key] = OllamaError(exc.code, f"{name}: not removed: {exc.message}", **exc.details)
        return failures

    def drop_leftovers(self, declared: t.Container[str]) -> None:
        """Remove the temporary names of an interrupted run. This is the last step, as blobs may depend on them."""
        memory = self.session.memory
        for text in list(memory.pending):
            key = key_of({"name": text})
            # A damaged state file may contain any text.
            if key and key not in declared:
                self.session.client.delete(parse(text, allow_cloud=True))
            memory.pending.remove(text)
