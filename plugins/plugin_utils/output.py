# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text in addition to the output of the stdout callback.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

from ansible import constants
from ansible.utils.display import Display

# The stdout callbacks of ansible-core and the community collections with human-readable output.
_READABLE = frozenset(
    {
        *("actionable", "counter_enabled", "debug", "default", "dense", "diy", "full_skip", "minimal", "oneline"),
        *("selective", "skippy", "stderr", "tree", "unixy", "yaml"),
    }
)


def is_human_readable(callback: str | None = None) -> bool:
    """Return whether the stdout callback prints human-readable output; additional text breaks other formats.

    :param callback: the name of the callback; that of the configuration by default.
    """
    name = constants.config.get_config_value("DEFAULT_STDOUT_CALLBACK") if callback is None else callback
    return str(name).rsplit(".", 1)[-1].lower() in _READABLE


def show(text: str) -> None:
    """Print text, on stderr if the stdout callback has another format."""
    Display().display(text, stderr=not is_human_readable())
