# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a call or its prediction: a row per model, and a sentence per finding, repair and removal.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.progress import human
from .plan import Build, Copy, Delete, Found, Plan, Pull, Reason
from .pull import Outcome


def predicted_outcome(plan: Plan) -> Outcome:
    """Return the predicted outcome of a plan."""
    outcome = Outcome(damage=[damage.to_dict() for damage in plan.before.damage], failure=plan.failure)
    for step in plan.steps:
        if isinstance(step, Delete):
            outcome.actions.append("would be removed")
        elif isinstance(step, Pull):
            first = step.candidates[0]
            size = human(first.size) if first.offer else "unknown size"
            if plan.is_undecided:
                outcome.actions.append(f"would be updated from {first.source} if this source has another version")
            else:
                outcome.actions.append(f"would be {step.reason.value} from {first.source}, {size}")
            outcome.source = str(first.source)
        elif isinstance(step, Build):
            outcome.actions += step.prediction["actions"]
        elif isinstance(step, Copy):
            outcome.actions.append(f"would also be named {step.alias}")
    return outcome


def predict(plan: Plan, after: dict[str, Found]) -> None:
    """Replace the states of models by those after a plan."""
    key = plan.model.name.key
    for step in plan.steps:
        if isinstance(step, Delete):
            after[key] = Found()
        elif isinstance(step, Pull) and not plan.is_undecided:
            offer = step.candidates[0].offer
            after[key] = Found(offer.chosen.digest, offer.chosen.size) if offer else Found("unknown")
        elif isinstance(step, Build):
            after[key] = Found("unknown")
        elif isinstance(step, Copy):
            after[step.alias.key] = after[key]


def _shortened(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the result of a failed call: the changes that were made nevertheless."""
    changed = {**result, "models": [row for row in result["models"] if row["changed"]]}
    unused = ("undeclared", "bytes_free", "bytes_missing", "hashed_bytes")
    return {name: value for name, value in changed.items() if name == "changed" or (value and name not in unused)}


class Report:
    """Collects the outcomes of one call and builds the module's result.

    :ivar removed: undeclared models that are removed.
    :ivar memory: the rows of the module model_loaded by model key.
    :ivar probes: the results of tests by model key.
    """

    def __init__(
        self,
        plans: t.Sequence[Plan],
        found: t.Mapping[str, Found],
        undeclared: t.Sequence[Name],
        listed: t.Mapping[str, t.Mapping[str, t.Any]],
        warnings: list[str],
    ) -> None:
        self.plans = plans
        self.found = found
        self.after = dict(found)
        self.removed = undeclared
        self.listed = listed
        self.warnings = warnings
        self.outcomes: list[Outcome] = []
        self.failures: list[OllamaError] = []
        self.memory: dict[str, dict[str, t.Any]] = {}
        self.probes: dict[str, dict[str, t.Any]] = {}
        self.totals: dict[str, t.Any] = {}

    @property
    def failed(self) -> set[str]:
        """The keys of the models that did not reach their states."""
        return {plan.model.name.key for plan, outcome in zip(self.plans, self.outcomes) if outcome.failure}

    def finish(self, *, check_mode: bool) -> dict[str, t.Any]:
        """Return the result.

        :raises OllamaError: if a model failed, with the result in the details.
        """
        rows = [self._row(plan, outcome) for plan, outcome in zip(self.plans, self.outcomes)]
        result = {
            "changed": bool(self.removed) or any(row["changed"] for row in rows),
            "models": rows,
            "removed": [str(name) for name in self.removed],
            "messages": self._messages(check_mode=check_mode),
            "bytes_pulled": sum(row["bytes_pulled"] for row in rows),
            **self.totals,
            "warnings": self.warnings,
            "diff": self._diff(),
        }
        failures = [outcome.failure for outcome in self.outcomes if outcome.failure] + self.failures
        if not failures and not check_mode:
            failures = self._unconverged()
        if failures:
            message = "; ".join(exc.message for exc in failures)
            if len(failures) > 1:
                message = f"{len(failures)} models failed: {message}"
            raise OllamaError(failures[0].code, message, **dict(failures[0].details, result=_shortened(result)))
        return result

    def _unconverged(self) -> list[OllamaError]:
        return [
            OllamaError(
                "model_not_converged",
                f"{plan.model.name}: did not reach the declared state {plan.model.state}",
                name=str(plan.model.name),
            )
            for plan in self.plans
            if self.after[plan.model.name.key].intact != (plan.model.state != "absent")
        ]

    def _row(self, plan: Plan, outcome: Outcome) -> dict[str, t.Any]:
        """Return the row of one model; its ``changed`` results from the states, not from the steps."""
        model = plan.model
        now = self.after[model.name.key]
        memory = self.memory.get(model.name.key)
        concerned = [name.key for name in (model.name, *model.aliases)]
        changed = any(self.found[key].state != self.after[key].state for key in concerned)
        actions = list(outcome.actions)
        if memory and memory["changed"]:
            actions.append("loaded" if model.loaded else "unloaded")
        return {
            "name": str(model.name),
            "state": model.state,
            "digest_before": plan.before.digest or None,
            "digest_after": now.digest or None,
            "size": now.size,
            "changed": changed or bool(memory and memory["changed"]),
            "actions": actions,
            "bytes_pulled": outcome.bytes_pulled,
            "seconds": outcome.seconds,
            "source": outcome.source,
            "damage": outcome.damage,
            "memory": memory,
            "probe": self.probes.get(model.name.key),
        }

    def _diff(self) -> dict[str, t.Any]:
        names = [name for plan in self.plans for name in (plan.model.name, *plan.model.aliases)]
        before: dict[str, t.Any] = {str(name): self.found[name.key].digest or None for name in names}
        after: dict[str, t.Any] = {str(name): self.after[name.key].digest or None for name in names}
        for name in self.removed:
            before[str(name)] = "sha256:" + str(self.listed[name.key].get("digest"))
            after[str(name)] = None
        return {"before": before, "after": after}

    def _messages(self, *, check_mode: bool) -> list[str]:
        """Return a sentence for each finding, repair and removal."""
        found: list[str] = []
        for plan, outcome in zip(self.plans, self.outcomes):
            name = plan.model.name
            problems = [plan.before.problem] if plan.before.problem else []
            problems += [damage["message"] for damage in outcome.damage]
            found += [f"{name}: damaged: {problem}" for problem in problems]
            reason = plan.pull.reason if plan.pull else None
            if reason is Reason.DAMAGED or problems or any(isinstance(step, Delete) for step in plan.steps):
                found += [f"{name}: {action}" for action in outcome.actions]
        verb = "would be removed" if check_mode else "removed"
        return found + [f"{name}: {verb}, as it is not declared" for name in self.removed]
