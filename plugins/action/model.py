# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module model, show the progress of its pulls, and print findings, repairs and removals."""

from __future__ import annotations

from ..plugin_utils.job import JobAction


class ActionModule(JobAction):
    """The module of the same name, with live progress."""

    name = "kaido.ollama.model"
    returns = "models"
