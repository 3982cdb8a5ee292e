# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that action plugins write on the controller.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from ..module_utils._core.errors import OllamaError


def write_atomically(path: str, text: str, *, code: str, option: str) -> None:
    """Replace a file, so that readers find either the old or the new content.

    :param code: the code of the failure if it cannot be written.
    :param option: the option that has the path, for messages.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".kaido-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as exc:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise OllamaError(code, f"{option}: cannot write {path}: {exc.strerror}") from None
