# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module release, and show the progress of its downloads."""

from __future__ import annotations

from ..plugin_utils.job import JobAction


class ActionModule(JobAction):
    """The module of the same name, with live progress."""

    name = "kaido.ollama.release"
    returns = "bytes_downloaded"
