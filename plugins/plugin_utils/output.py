# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the standard output of the controller is human-readable or machine-readable.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

from ansible import constants


def is_machine_readable(callback: str | None = None) -> bool:
    """Return whether the stdout callback prints JSON, so that any other text on stdout would break its readers.

    :param callback: the name of the callback; that of the configuration by default.
    """
    name = callback if callback is not None else str(constants.DEFAULT_STDOUT_CALLBACK)  # type: ignore[attr-defined]
    return "json" in name.rsplit(".", 1)[-1].lower()
