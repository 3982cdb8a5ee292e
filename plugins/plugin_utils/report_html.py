# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of the report page: escaped text and bars. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import html
import typing as t

from ..module_utils._core.text import message


def escape(value: t.Any) -> str:
    """Return a value as one line of HTML text, also for attributes in double quotes."""
    return html.escape(message(str(value)))


def share_bar(label: str, used: float, total: float, text: str) -> str:
    """Return a bar for a share, whose colour changes at 85 and 95 percent.

    :param text: the values, which are shown next to the label.
    """
    share = min(max(used / total, 0.0), 1.0) if total > 0 else 0.0
    level = "bad" if share >= 0.95 else "warn" if share >= 0.85 else "ok"
    return (
        f'<div class="bar"><div class="bar-text"><span>{escape(label)}</span><span>{escape(text)}</span></div>'
        f'<div class="track" role="img" aria-label="{escape(label)}: {share:.0%}">'
        f'<div class="fill {level}" style="width:{share * 100:.1f}%"></div></div></div>'
    )
