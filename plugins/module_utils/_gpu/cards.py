# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver requirements of a GPU by its PCI device ID, so that no driver has to be loaded. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

# The ROCm targets for which Ollama is built.
_DATA_CENTRE = ("gfx908", "gfx90a", "gfx942", "gfx950")
_RADEON = ("gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1150", "gfx1151", "gfx1200", "gfx1201")
GFX_TARGETS = _DATA_CENTRE + _RADEON
# The only target of integrated GPUs that Ollama uses by default.
GFX_INTEGRATED = "gfx1151"


class Need(t.NamedTuple):
    """The driver that a range of NVIDIA GPUs requires."""

    generation: str
    compute_capability: str
    modules: tuple[str, ...]
    oldest: int
    """The oldest driver branch that supports the GPU and that Ollama can use with it."""
    newest: int | None
    """The newest driver branch that supports the GPU; None if all newer ones do."""


_BOTH, _OPEN, _PROPRIETARY = ("open", "proprietary"), ("open",), ("proprietary",)

# The first device ID of each range. Sources: NVIDIA's open-gpu-kernel-modules and its list of legacy GPUs.
_NVIDIA: tuple[tuple[int, Need], ...] = (
    (0x0000, Need("Kepler or older", "3.7", (), 0, 470)),
    (0x1340, Need("Maxwell", "5.2", _PROPRIETARY, 570, 580)),
    (0x15F0, Need("Pascal", "6.0", _PROPRIETARY, 570, 580)),
    (0x1600, Need("Maxwell", "5.2", _PROPRIETARY, 570, 580)),
    (0x1B00, Need("Pascal", "6.1", _PROPRIETARY, 570, 580)),
    (0x1D81, Need("Volta", "7.0", _PROPRIETARY, 550, 580)),
    (0x1E02, Need("Turing", "7.5", _BOTH, 550, None)),
    (0x2080, Need("Ampere", "8.0", _BOTH, 550, None)),
    (0x2180, Need("Turing", "7.5", _BOTH, 550, None)),
    (0x2200, Need("Ampere", "8.6", _BOTH, 550, None)),
    (0x2300, Need("Hopper", "9.0", _BOTH, 550, None)),
    (0x2400, Need("Ampere", "8.6", _BOTH, 550, None)),
    (0x2600, Need("Ada", "8.9", _BOTH, 550, None)),
    (0x2900, Need("Blackwell", "10.0", _OPEN, 570, None)),
    (0x2B00, Need("Blackwell", "12.0", _OPEN, 570, None)),
    (0x3000, Need("Blackwell Ultra or newer", "10.3", _OPEN, 580, None)),
)

# Navi 32, Navi 44 and 48, Strix and Strix Halo, MI300 and MI350: Debian 12 has no firmware for them.
NEW_AMD = (0x7470, 0x747E, 0x7550, 0x7551, 0x7590, 0x150E, 0x1586, 0x74A0, 0x74A1, 0x74A5, 0x75A0, 0x75A3)


def nvidia(device: int) -> Need:
    """Return the requirements of an NVIDIA GPU. A device ID after those of the table counts as its last row."""
    return [need for first, need in _NVIDIA if first <= device][-1]
