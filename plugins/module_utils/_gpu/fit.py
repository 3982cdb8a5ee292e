# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Will a model fit into the GPU's memory? To be said before it is pulled. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

from .._core.progress import human

# Context and buffers come to the weights.
_CONTEXT = 1.1


def too_big(name: str, size: int, vram: int) -> str | None:
    """Return a warning about a model that will not fit; None where it will, or nothing is known. Pure."""
    need = size * _CONTEXT
    if not vram or not size or need <= vram:
        return None
    return f"{name}: needs about {human(need)}, has {human(vram)}: {100 * (1 - vram / need):.0f} % would run on the CPU"
