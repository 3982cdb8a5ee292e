# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of inference: load a model, generate with it, measure and evaluate the result.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import math
import time
import typing as t
from dataclasses import dataclass, replace

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.progress import human
from .._gpu import memory as gpu_memory
from .._gpu import tree, verification
from .._server.journal import last_lines, read_compute
from .declaration import Demands
from .duration import FOREVER
from .loaded import LoadedModels

# Failures of a model that cannot run now; they are warnings if a GPU is only preferred.
CANNOT_RUN = ("load_failed", "server_busy", "connection_stalled", "model_still_loaded", "runner_failed", "server_error")


@dataclass(frozen=True)
class Question:
    """The request of a test.

    :ivar tokens: the maximum number of tokens of the answer.
    :ivar keep: the seconds for which the model stays in memory afterwards; None for as long as before.
    """

    prompt: str = "Name three colours."
    tokens: int = 32
    seed: int = 42
    keep: float | None = None


class Probe:
    """Tests of inference on one server.

    :param version: the version of the server.
    :param unit: the systemd unit of the server on this host, whose journal and processes are additional evidence; or
        None.
    :param gpu_settings: the settings of the server for the estimate of its GPU memory.
    """

    def __init__(
        self,
        models: LoadedModels,
        version: str | None,
        unit: str | None,
        gpu_settings: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        self.models = models
        self.gpu_settings = gpu_settings or {}
        self.version = version
        self.unit = unit
        self.compute = read_compute(unit) if unit else []

    def run(self, name: Name, question: Question, demands: Demands) -> dict[str, t.Any]:
        """Test a model, and return the result.

        :raises OllamaError: ``load_failed``, ``server_error``, ``server_busy``, ``runner_failed``, ``response_empty``
            and those of `judge`; with ``result`` in the details if there was an answer.
        """
        process, evidence, alone = verification.Server(frozenset(), None), verification.Evidence(), False

        def collect_evidence() -> None:
            nonlocal process, evidence, alone
            if self.unit:
                process = verification.find_server(self.unit)
                evidence = verification.evidence(process, tree.run_program)
                alone = len(self.models.client.running()) == 1

        try:
            result = ask(self.models, name, question, evidence=collect_evidence)
            problem = (
                verification.explain(result, self.compute, evidence.listed, process, self.version or "0")
                if self.unit
                else None
            )
            result["gpu_problem"] = problem
            if self.unit and result["size_vram"]:
                used = evidence.memory if alone and result["size_vram"] == result["size"] else None
                result["gpu_memory"] = self._memory(name, result, used)
            judge(result, demands, problem)
        except OllamaError as exc:
            message = exc.message
            if exc.code == "runner_failed" and self.unit:
                message += f"; the last lines of its journal: {' | '.join(last_lines(self.unit)) or 'none'}"
            raise OllamaError(exc.code, message, **exc.details) from None
        return result

    def _memory(self, name: Name, result: t.Mapping[str, t.Any], used: int | None) -> dict[str, t.Any]:
        """Return the estimated GPU memory of a loaded model together with the reported memory."""
        server = self.models.client
        weights = next((row["size"] for row in server.tags() if row["name"] == str(name)), 0)
        found = (server.show(name) or {}).get("model_info")
        model = gpu_memory.architecture(found if isinstance(found, dict) else {})
        settings = gpu_memory.settings(self.gpu_settings)
        if result["context_length"]:
            settings = replace(settings, context_length=result["context_length"])
        return gpu_memory.compare(gpu_memory.estimate(weights, model, settings, 0), result["size_vram"], used)


def ask(
    runs: LoadedModels, name: Name, question: Question, *, evidence: t.Callable[[], None] = lambda: None
) -> dict[str, t.Any]:
    """Load a model, generate with it and measure both. Afterwards, its residency is restored or as requested.

    :param evidence: called after the answer, while the model is in memory.
    :raises OllamaError: ``load_failed``, ``server_error``, ``server_busy``, ``response_empty``.
    """
    before = runs.residency(name)
    # A model that was loaded keeps its remaining time, apart from the duration of the test.
    left = FOREVER if before.forever else max(60.0, math.ceil(before.expires - time.time()))
    final = question.keep if question.keep is not None else None if before.loaded else 0.0

    def leave() -> None:
        if final == 0 and runs.residency(name).loaded:
            runs.unload(name)
        elif final:
            runs.load(name, final)

    try:
        started = time.monotonic()
        embedder = runs.load(name, left)
        load_seconds = time.monotonic() - started
        if embedder:
            answer = runs.embed(name, question.prompt, left)
        else:
            answer = runs.generate(
                name, question.prompt, left, {"temperature": 0, "seed": question.seed, "num_predict": question.tokens}
            )
        now = runs.residency_after_load(name)
        evidence()
    except OllamaError:
        with contextlib.suppress(OllamaError):
            leave()
        raise
    leave()
    result = {
        "name": str(name),
        "was_loaded": before.loaded,
        "load_seconds": round(load_seconds, 3),
        "size": now.size,
        "size_vram": now.size_vram,
        "vram_share": now.vram_share,
        "context_length": now.context_length,
        **(_embedded(answer) if embedder else _answered(answer)),
    }
    if not (result["dimensions"] or result["response"] or result["image"]):
        raise OllamaError("response_empty", f"{name}: it runs, but its answer is empty", result=result)
    return result


def _answered(answer: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    text = str(answer.get("response") or "").strip() or str(answer.get("thinking") or "").strip()
    return {
        "response": text[:500],
        "dimensions": None,
        "image": bool(answer.get("image")),
        "prompt_tokens_per_second": _rate(answer.get("prompt_eval_count"), answer.get("prompt_eval_duration")),
        "answer_tokens_per_second": _rate(answer.get("eval_count"), answer.get("eval_duration")),
    }


def _embedded(answer: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    vectors: list[list[float]] = answer.get("embeddings") or [[]]
    intact = all(isinstance(x, (int, float)) and math.isfinite(x) for x in vectors[0]) and any(vectors[0])
    worked = (answer.get("total_duration") or 0) - (answer.get("load_duration") or 0)
    return {
        "response": None,
        "image": False,
        "dimensions": len(vectors[0]) if intact else 0,
        "prompt_tokens_per_second": _rate(answer.get("prompt_eval_count"), worked),
        "answer_tokens_per_second": None,
    }


def _rate(count: t.Any, nanoseconds: t.Any) -> float | None:
    """Return tokens per second; None if the server does not report it, as for a cached prompt."""
    return round(count / nanoseconds * 1e9, 1) if count and nanoseconds and nanoseconds > 0 else None


def judge(result: t.Mapping[str, t.Any], demands: Demands, problem: str | None = None) -> None:
    """Verify that the result of a test meets the requirements.

    :param problem: a problem from other evidence than the sizes that the server reports.
    :raises OllamaError: ``model_on_cpu``, ``model_partly_on_cpu``, ``gpu_use_unconfirmed``, ``model_too_slow``.
    """
    name, size, vram = result["name"], result["size"], result["size_vram"]
    if demands.gpu and (vram < size or problem):
        what = f"{human(vram)} of {human(size)} ({100 * vram / (size or 1):.0f} %) are in GPU memory"
        what = problem or (f"only {what}" if vram else f"it runs on the CPU: {what}")
        code = "model_on_cpu" if not vram else "model_partly_on_cpu" if vram < size else "gpu_use_unconfirmed"
        raise OllamaError(code, f"{name}: {what}; expected all of it in GPU memory", result=result)
    if demands.tokens_per_second:
        rate = result["prompt_tokens_per_second" if result["response"] is None else "answer_tokens_per_second"]
        if rate is None or rate < demands.tokens_per_second:
            raise OllamaError(
                "model_too_slow",
                f"{name}: {'an unknown number of' if rate is None else f'{rate:g}'} tokens/s;"
                f" expected {demands.tokens_per_second:g} or more",
                result=result,
            )
