# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars and line plots of the report page, as HTML and SVG without scripts. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import html
import math
import typing as t

from ..module_utils._core.text import message

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 28, 34


def escape(value: t.Any) -> str:
    """Return a value as one line of HTML text, also for attributes in double quotes."""
    return html.escape(message(str(value)))


def bar(label: str, used: float, total: float, text: str) -> str:
    """Return a bar of a share; at 85 and 95 percent it changes its colour.

    :param text: the figures, shown beside the label.
    """
    share = min(max(used / total, 0.0), 1.0) if total > 0 else 0.0
    level = "bad" if share >= 0.95 else "warn" if share >= 0.85 else "ok"
    return (
        f'<div class="bar"><div class="bar-text"><span>{escape(label)}</span><span>{escape(text)}</span></div>'
        f'<div class="track" role="img" aria-label="{escape(label)}: {share:.0%}">'
        f'<div class="fill {level}" style="width:{share * 100:.1f}%"></div></div></div>'
    )


def line_plot(title: str, points: t.Sequence[tuple[float, float]], *, unit: str, mark: float | None = None) -> str:
    """Return an SVG of values over the number of parallel requests; empty without two points.

    :param mark: the abscissa of a point to emphasize, such as the knee of a throughput curve.
    """
    points = sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and x > 0 and y >= 0)
    if len(points) < 2:
        return ""
    top = _nice(max(y for _x, y in points))
    # Parallel requests are powers of two, so that a logarithmic axis has equal distances.
    low, high = math.log2(points[0][0]), math.log2(points[-1][0])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log2(x) - low) / (high - low) if high > low else 0.5
        down = y / top if top else 0.0
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - down * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<text class="plot-title" x="0" y="12">{escape(title)}</text>']
    for step in range(5):
        value = top * step / 4
        _x, y = place(points[0][0], value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3:.1f}" text-anchor="end">{_number(value)}</text>')
    places = [place(x, y) for x, y in points]
    parts.append('<polyline class="line" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
    for (x, y), (across, down) in zip(points, places):
        kind = "dot mark" if mark is not None and x == mark else "dot"
        name = f"{_number(x)} parallel: {_number(y)} {escape(unit)}"
        parts.append(f'<circle class="{kind}" cx="{across:.1f}" cy="{down:.1f}" r="4"><title>{name}</title></circle>')
        bottom = _HEIGHT - _BOTTOM + 14
        parts.append(f'<text class="tick" x="{across:.1f}" y="{bottom}" text-anchor="middle">{_number(x)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">parallel requests</text>')
    label = f"{escape(title)} over parallel requests"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _nice(value: float) -> float:
    """Return a round number that is not below a value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 5, 8, 10) if factor * power >= value)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
