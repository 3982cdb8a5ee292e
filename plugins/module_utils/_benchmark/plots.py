# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots of benchmark results as SVG texts, readable on light and dark pages. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import html
import math
import typing as t
from dataclasses import dataclass, field

from .._core.text import one_line
from . import results
from .requests import DIRECT, GATEWAY

_WIDTH, _PLOT = 640, 220
_LEFT, _RIGHT, _TOP = 64, 24, 40
# These colours are distinguishable on white and on dark grey, and for most colour-blind readers (Okabe and Ito).
_COLOURS = ("#2b8bd1", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
_STYLE = (
    "<style>.kb{font:12px sans-serif;--kb-ink:#333;--kb-grid:#ddd}"
    "@media(prefers-color-scheme:dark){.kb{--kb-ink:#ddd;--kb-grid:#555}}"
    ".kb text{fill:var(--kb-ink)}.kb .g{stroke:var(--kb-grid)}.kb .k{stroke:var(--kb-ink);stroke-dasharray:2 3}</style>"
)


@dataclass
class Series:
    """A line of a plot.

    :ivar rows: parallelism, and median, minimum and maximum.
    """

    label: str
    colour: str
    dashes: str = ""
    rows: list[tuple[int, t.Mapping[str, float]]] = field(default_factory=list)


def plots(documents: t.Iterable[results.Document]) -> list[str]:
    """Return the plots of throughput and latency over parallelism for each measured model of each result.

    :param documents: results as in docs/benchmark.schema.json; ``inventory_hostname`` is in the title if it is given.
    """
    found = []
    for document in documents:
        for model in document["models"]:
            if not model["cells"]:
                continue
            host = document.get("inventory_hostname")
            title = f"{model['name']} on {host}" if host else model["name"]
            unit = "texts/s" if model["kind"] == results.EMBEDDING else "answer tokens/s"
            found.append(draw(f"{title}: throughput, {unit}", throughput(model), knee_of(model)))
            found.append(draw(f"{title}: latency, seconds", latency(model), None))
    return found


def knee_of(model: results.Document) -> int | None:
    """Return the knee of the series on which the suggestion is based."""
    return results.knee(results.longest_series(model))


def throughput(model: results.Document) -> list[Series]:
    """Return a series for each length of prompts; those through the gateway are dashed."""
    found = []
    for way, dashes in ((DIRECT, ""), (GATEWAY, "6 4")):
        for number, length in enumerate(results.lengths(model)):
            label = f"{length} tokens" + (", gateway" if way == GATEWAY else "")
            found.append(_series(model, way, length, "throughput", Series(label, _colour(number), dashes)))
    return [series for series in found if series.rows]


def latency(model: results.Document) -> list[Series]:
    """Return two series for each length of prompts: the complete response, and, dashed, the first token."""
    found = []
    for figure, dashes, text in (("seconds", "", "answer"), ("first_token_seconds", "2 4", "first token")):
        for number, length in enumerate(results.lengths(model)):
            series = Series(f"{length} tokens, {text}", _colour(number), dashes)
            found.append(_series(model, DIRECT, length, figure, series))
    return [series for series in found if series.rows]


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _series(model: results.Document, way: str, length: int, figure: str, series: Series) -> Series:
    cells = [row for row in model["cells"] if (row["way"], row["prompt_tokens"]) == (way, length)]
    series.rows = sorted(((row["parallel"], row[figure]) for row in cells if row[figure]), key=lambda row: row[0])
    return series


def draw(title: str, series: t.Sequence[Series], knee: int | None) -> str:
    """Return a plot of series over parallelism as one SVG element.

    :param knee: the parallelism to mark, or None.
    """
    levels = sorted({level for item in series for level, _spread in item.rows})
    top = _round_up(max((row["max"] for item in series for _level, row in item.rows), default=1.0))
    height = _TOP + _PLOT + 48 + 18 * ((len(series) + 1) // 2)

    def x(level: int) -> float:
        step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(levels) - 1)
        return round(_LEFT + step * levels.index(level), 1)

    def y(value: float) -> float:
        return round(_TOP + _PLOT * (1 - value / top), 1)

    parts = [_text(_LEFT, 20, title, weight="bold")]
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(_text(_LEFT - 8, y(value) + 4, f"{value:g}", anchor="end"))
    for level in levels:
        parts.append(_text(x(level), _TOP + _PLOT + 18, str(level), anchor="middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _TOP + _PLOT + 36, "parallel requests", anchor="middle"))
    if knee is not None and knee in levels:
        at = x(knee)
        parts.append(f'<line class="k" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_TOP + _PLOT}"/>')
        anchor = "end" if at > _WIDTH / 2 else "start"
        parts.append(_text(at - 4 if anchor == "end" else at + 4, _TOP + 12, f"knee: {knee}", anchor=anchor))
    for item in series:
        parts += _line(item, x, y)
    for number, item in enumerate(series):
        parts += _legend(item, _LEFT + (number % 2) * 280, _TOP + _PLOT + 58 + 18 * (number // 2))
    name = html.escape(one_line(title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="kb" role="img" viewBox="0 0 {_WIDTH} {height}" '
        f'width="100%" style="max-width:{_WIDTH}px"><title>{name}</title>{_STYLE}{"".join(parts)}</svg>'
    )


def _line(item: Series, x: t.Callable[[int], float], y: t.Callable[[float], float]) -> list[str]:
    """Return the line through the medians with a bar from minimum to maximum at each."""
    path = " ".join(f"{x(level)},{y(row['median'])}" for level, row in item.rows)
    stroke = f'stroke="{item.colour}" stroke-width="2" stroke-dasharray="{item.dashes}"'
    parts = [f'<polyline fill="none" {stroke} points="{path}"/>']
    for level, row in item.rows:
        span = f'x1="{x(level)}" x2="{x(level)}" y1="{y(row["min"])}" y2="{y(row["max"])}"'
        parts.append(f'<line stroke="{item.colour}" {span}/>')
        parts.append(f'<circle fill="{item.colour}" r="3" cx="{x(level)}" cy="{y(row["median"])}"/>')
    return parts


def _legend(item: Series, x: float, y: float) -> list[str]:
    stroke = f'stroke="{item.colour}" stroke-width="2" stroke-dasharray="{item.dashes}"'
    return [f'<line {stroke} x1="{x}" x2="{x + 28}" y1="{y - 4}" y2="{y - 4}"/>', _text(x + 34, y, item.label)]


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    shown = html.escape(one_line(text))
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-weight="{weight}">{shown}</text>'


def _round_up(value: float) -> float:
    """Return the next number whose quarters are short decimals."""
    if not 0 < value < math.inf:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next((unit * factor for factor in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8) if unit * factor >= value), unit * 10)
