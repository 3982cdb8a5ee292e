# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calculations on the results of a benchmark: medians, the knee, suggestions and regressions. Pure.

A result is the document of docs/benchmark.schema.json.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import calendar
import math
import statistics
import time
import typing as t

from .._core.progress import human
from .requests import DIRECT, Round

Document = t.Dict[str, t.Any]

SCHEMA = 1
TEXT = "text"
EMBEDDING = "embedding"
# The knee is the lowest parallelism with this share of the highest throughput.
KNEE = 0.9
# Seconds. A smaller difference between two times is not a regression.
_NOISE = 0.05
# The compared figures of a cell, and whether a higher value is better.
_COMPARED = (("throughput", True), ("prompt_tokens_per_second", True), ("first_token_seconds", False))
_SHOWN = {
    "throughput": "throughput",
    "prompt_tokens_per_second": "prompt tokens/s",
    "first_token_seconds": "seconds to the first token",
    "vram_share": "share in GPU memory",
}


def spread(values: t.Iterable[float | None]) -> dict[str, float] | None:
    """Return median, minimum and maximum; None if there are no values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {
        "median": round(statistics.median(known), 4),
        "min": round(min(known), 4),
        "max": round(max(known), 4),
    }


def _rate(count: float, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


def cell(way: str, prompt_tokens: int, parallel: int, rounds: t.Sequence[Round]) -> Document:
    """Return the figures of the rounds of one parallelism and one length of prompts.

    Throughput is the number of answer tokens (for an embedding model: texts) of all requests of a round per second.
    Rounds with errors count for the times of requests, but not for throughput.
    """
    samples = [sample for item in rounds for sample in item.samples]
    errors = [error for item in rounds for error in item.errors]
    whole = [item for item in rounds if item.samples and not item.errors]
    produced = "texts" if any("texts" in sample for sample in samples) else "answer_tokens"
    return {
        "way": way,
        "prompt_tokens": prompt_tokens,
        "parallel": parallel,
        "requests": len(samples),
        "errors": len(errors),
        "error": errors[0].message if errors else None,
        "measured_prompt_tokens": spread(sample["prompt_tokens"] for sample in samples),
        "throughput": spread(_rate(sum(row[produced] for row in item.samples), item.seconds) for item in whole),
        "seconds": spread(sample["seconds"] for sample in samples),
        "first_token_seconds": spread(sample.get("first_token_seconds") for sample in samples),
        "prompt_tokens_per_second": spread(
            _rate(sample["prompt_tokens"], sample.get("prompt_seconds", 0)) for sample in samples
        ),
        "answer_tokens_per_second": spread(
            _rate(sample.get("answer_tokens", 0), sample.get("answer_seconds", 0)) for sample in samples
        ),
    }


def points(model: Document, way: str, prompt_tokens: int, figure: str = "throughput") -> list[tuple[int, float]]:
    """Return the medians of a figure over parallelism, except for cells in which requests failed."""
    return sorted(
        (row["parallel"], row[figure]["median"])
        for row in model["cells"]
        if (row["way"], row["prompt_tokens"]) == (way, prompt_tokens) and row[figure] and not row["errors"]
    )


def knee(rows: t.Sequence[tuple[int, float]]) -> int | None:
    """Return the lowest parallelism beyond which throughput hardly rises; None for fewer than two points."""
    if len(rows) < 2:
        return None
    highest = max(value for _parallel, value in rows)
    return min(parallel for parallel, value in rows if value >= KNEE * highest)


def lengths(model: Document) -> list[int]:
    """Return the measured lengths of prompts in tokens."""
    return sorted({row["prompt_tokens"] for row in model["cells"]})


def longest_series(model: Document) -> list[tuple[int, float]]:
    """Return the direct series with the most points; of several, the one with the shortest prompts."""
    return max((points(model, DIRECT, length) for length in lengths(model)), key=len, default=[])


def suggestion(model: Document, num_parallel: int, settings: Document) -> Document:
    """Return the suggested values of num_parallel and context_length, with the reasons.

    :param num_parallel: the number of requests for one model that the server processes at a time.
    :param settings: the settings of the benchmark.
    """
    parallel, why_parallel = _suggest_parallel(longest_series(model), num_parallel)
    context, why_context = _suggest_context(model, settings)
    return {"num_parallel": parallel, "context_length": context, "reasons": [why_parallel, why_context]}


def _suggest_parallel(rows: t.Sequence[tuple[int, float]], current: int) -> tuple[int | None, str]:
    best = knee(rows)
    if best is None:
        return None, "num_parallel: unknown, since fewer than two levels of parallelism were measured without errors"
    most = max(parallel for parallel, _value in rows)
    gain = f"{best} parallel requests have at least {KNEE:.0%} of the highest throughput"
    if best < current:
        return best, f"num_parallel: {best}, since {gain}; {current} slots take more memory without more throughput"
    if most <= current:
        more = "; throughput still rises at the highest level that was measured" if best == most else ""
        return current, f"num_parallel: {current} as now, since {gain}{more}"
    return min(2 * current, most), (
        f"num_parallel: try {min(2 * current, most)}, since the server processes {current} at a time and the other of"
        f" up to {most} parallel requests waited; measure again and compare throughput and memory"
    )


def _suggest_context(model: Document, settings: Document) -> tuple[int | None, str]:
    memory = model["memory"] or {}
    context, share = memory.get("context_length"), memory.get("vram_share")
    if not context:
        return None, "context_length: unknown, since the server did not report it"
    longest = max(
        (row["measured_prompt_tokens"]["max"] for row in model["cells"] if row["measured_prompt_tokens"]), default=0
    )
    needed = _power_of_two(int(longest) + settings["answer_tokens"])
    if share and share < 1:
        least = max(needed, context // 2)
        if least < context:
            return least, (
                f"context_length: {least}, since only {share:.0%} of the model is in GPU memory at {context}; the cache"
                f" grows with context_length times num_parallel"
            )
        return context, (
            f"context_length: {context} as now, which the measured prompts need, although only {share:.0%} of the model"
            f" is in GPU memory; reduce num_parallel or choose a smaller model"
        )
    if model["skipped"]:
        asked = max(row["prompt_tokens"] for row in model["skipped"])
        longest_context = memory.get("longest_context") or math.inf
        if context >= longest_context:
            return context, f"context_length: {context} as now, since the model supports no longer context"
        wanted = int(min(_power_of_two(asked + settings["answer_tokens"]), longest_context))
        return wanted, (
            f"context_length: {wanted}, since prompts of {asked} tokens do not fit into {context}; it takes more"
            " memory, so measure again"
        )
    where = "the whole model is in GPU memory" if share else "the model runs on the CPU"
    return context, f"context_length: {context} as now, since {where} and all measured prompts fit"


def _power_of_two(number: int) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1, number))))


def compare(before: Document, after: Document, threshold: float) -> list[Document]:
    """Return the regressions between two results of a host: figures that are worse by more than a threshold.

    :param threshold: percent.
    """
    if before["settings"]["answer_tokens"] != after["settings"]["answer_tokens"]:
        return []
    models = {model["name"]: model for model in before["models"]}
    found = []
    for model in after["models"]:
        old = models.get(model["name"])
        if old:
            found += _compare_memory(old, model, threshold) + _compare_cells(old, model, threshold)
    return found


def _compare_memory(before: Document, after: Document, threshold: float) -> list[Document]:
    old, new = ((model["memory"] or {}).get("vram_share") for model in (before, after))
    if old is None or new is None or not _worse(old, new, threshold, True):
        return []
    return [_regression(after["name"], None, "vram_share", old, new)]


def _compare_cells(before: Document, after: Document, threshold: float) -> list[Document]:
    def key(row: Document) -> tuple[str, int, int]:
        return row["way"], row["prompt_tokens"], row["parallel"]

    known = {key(row): row for row in before["cells"]}
    found = []
    for row in after["cells"]:
        old = known.get(key(row), {})
        for figure, more_is_better in _COMPARED:
            if not (old.get(figure) and row[figure]):
                continue
            pair = (old[figure]["median"], row[figure]["median"])
            if _worse(*pair, threshold, more_is_better):
                found.append(_regression(after["name"], row, figure, *pair))
    return found


def _worse(before: float, after: float, threshold: float, more_is_better: bool) -> bool:
    if before <= 0:
        return False
    if more_is_better:
        return after < before * (1 - threshold / 100)
    return after > before * (1 + threshold / 100) and after - before > _NOISE


def _regression(model: str, row: Document | None, figure: str, before: float, after: float) -> Document:
    where = f", {row['way']}, {row['prompt_tokens']} tokens, {row['parallel']} parallel" if row else ""
    change = round(100 * (after - before) / before, 1)
    return {
        "model": model,
        "way": row and row["way"],
        "prompt_tokens": row and row["prompt_tokens"],
        "parallel": row and row["parallel"],
        "figure": figure,
        "before": before,
        "after": after,
        "change_percent": change,
        "text": f"{model}{where}: {_SHOWN[figure]} {before:g} -> {after:g} ({change:+g} %)",
    }


def summary(document: Document) -> list[str]:
    """Return a line for each model with its suggestion."""
    lines = []
    for model in document["models"]:
        name = model["name"]
        if model["failure"]:
            lines.append(f"{name}: not measured: {model['failure']['message']}")
            continue
        rows = longest_series(model)
        unit = "texts/s" if model["kind"] == EMBEDDING else "tokens/s"
        best = max((value for _parallel, value in rows), default=None)
        memory = model["memory"]
        parts = [f"loaded in {model['load_seconds']:g} s"] if model["load_seconds"] is not None else []
        parts += [f"up to {best:g} {unit}, knee at {knee(rows) or 'unknown'}"] if best is not None else []
        parts += [f"{human(memory['size'])}, {memory['vram_share'] or 0:.0%} in GPU memory"] if memory else []
        estimate = model.get("estimate") or {}
        if estimate.get("estimate_error") is not None:
            parts.append(f"estimated {human(estimate['estimated'])}, error {estimate['estimate_error']:+.0%}")
        lines.append(f"{name}: {'; '.join(parts) or 'no figures'}")
        lines += [f"{name}: {reason}" for reason in (model["suggestion"] or {}).get("reasons", [])]
    return lines


def for_report(document: Document) -> Document:
    """Return the series of each model on which its suggestion is based."""
    started = calendar.timegm(time.strptime(document["started"], "%Y-%m-%dT%H:%M:%SZ"))
    models = []
    for model in document["models"]:
        rows = longest_series(model)
        length = next((item for item in lengths(model) if points(model, DIRECT, item) == rows), 0)
        first = dict(points(model, DIRECT, length, "first_token_seconds"))
        models.append(
            {
                "name": model["name"],
                "knee": knee(rows),
                "suggestion": "; ".join((model["suggestion"] or {}).get("reasons", [])) or None,
                "runs": [
                    {"parallel": parallel, "tokens_per_second": value, "first_token_seconds": first.get(parallel)}
                    for parallel, value in rows
                ],
            }
        )
    return {"measured_at": started, "models": models}
