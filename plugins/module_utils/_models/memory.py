# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of declarations about memory and speed: loaded and unloaded models, and tests of inference.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core.errors import OllamaError
from .declaration import DeclaredModel
from .loaded import LoadedModels, keep_loaded
from .probe import Probe, Question
from .result import Report
from .session import Session

# A short answer is sufficient, as the declaration requires a rate, not a text.
_QUESTION = Question(tokens=16)


class MemoryStates:
    """Loads, unloads and tests declared models as requested. Other models cause no request."""

    def __init__(self, session: Session, declared: t.Sequence[DeclaredModel]) -> None:
        self.session = session
        self.loaded = [model for model in declared if model.loaded is not None]
        self.probed = [model for model in declared if model.probe]

    def apply(self, report: Report, *, check_mode: bool) -> None:
        """Load, unload and test models; add results and failures to the report."""
        bad = report.failed
        loaded = [model for model in self.loaded if model.name.key not in bad]
        probed = [] if check_mode else [model for model in self.probed if model.name.key not in bad]
        if not loaded and not probed:
            return
        models: LoadedModels | None = None
        if self.session.version:
            models = LoadedModels(self.session.client, timeout=self.session.options.load_timeout)
        for keep in sorted({model.keep for model in loaded}, key=lambda keep: (keep is not None, keep or 0.0)):
            self._keep(models, [model for model in loaded if model.keep == keep], keep, report, check_mode=check_mode)
        if models and probed:
            probe = Probe(models, self.session.version, self.session.options.unit)
            for model in probed:
                self._test(probe, model, report)

    def _keep(
        self,
        models: LoadedModels | None,
        group: t.Sequence[DeclaredModel],
        keep: float | None,
        report: Report,
        *,
        check_mode: bool,
    ) -> None:
        try:
            result = keep_loaded(models, [model.name for model in group], keep, check_mode=check_mode)
        except OllamaError as exc:
            report.failures.append(OllamaError(exc.code, exc.message, **_without_result(exc)))
            result = exc.details.get("result", {})
        for model, row in zip(group, result.get("models", [])):
            report.memory[model.name.key] = row

    def _test(self, probe: Probe, model: DeclaredModel, report: Report) -> None:
        self.session.progress.note(f"testing {model.name}")
        demands = t.cast("t.Any", model.probe)
        try:
            report.probes[model.name.key] = probe.run(model.name, _QUESTION, demands)
        except OllamaError as exc:
            report.failures.append(OllamaError(exc.code, exc.message, **_without_result(exc)))
            if "result" in exc.details:
                report.probes[model.name.key] = exc.details["result"]


def _without_result(exc: OllamaError) -> dict[str, t.Any]:
    return {key: value for key, value in exc.details.items() if key != "result"}
