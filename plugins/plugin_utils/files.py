# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that action plugins write on the controller.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

from ..module_utils._core import fs
from ..module_utils._core.errors import OllamaError


def write_atomically(path: str, text: str, *, code: str, option: str) -> None:
    """Replace a file atomically: readers get the old or the new content.

    :param code: the code of the error if it cannot be written.
    :param option: the name of the option with the path, for messages.
    :raises OllamaError: ``code``.
    """
    try:
        fs.write_atomic(path, text.encode("utf-8", "replace"))
    except OSError as exc:
        raise OllamaError(code, f"{option}: cannot write {path}: {exc.strerror}") from None
