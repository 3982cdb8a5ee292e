# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ansible-core and the Python of a host are new enough. Pure.

An old Python reports its problem before any code of this collection is executed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .errors import OllamaError

OLDEST_CORE = "2.16"
OLDEST_PYTHON = "3.8"
_WAY = "install a newer one (EL 8: dnf install python39) and set ansible_python_interpreter to its path"
_TOO_OLD = re.compile(
    r"future feature annotations is not defined|requires a minimum of Python|SyntaxError: |"
    r"ansible-core requires .* Python|Python 3\.[0-7]\b.* not supported"
)
_MISSING = re.compile(r"(python[0-9.]*|platform-python): (command )?not found|python[0-9.]*: No such file or directory")


def check_core(version: str) -> None:
    """Refuse an ansible-core that is too old: about a collection, it only warns of that.

    :raises OllamaError: ``ansible_unsupported``.
    """
    if _minor(version) < _minor(OLDEST_CORE):
        raise OllamaError("ansible_unsupported", f"ansible-core {version} is too old; expected {OLDEST_CORE} or newer")


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def python_problem(result: t.Mapping[str, t.Any]) -> str | None:
    """Return why the Python of a host cannot run the modules of this collection, or None if it can.

    :param result: the result of a module that failed.
    """
    if not result.get("failed") or "failure" in result:
        return None
    texts = (str(result.get(key) or "") for key in ("msg", "module_stderr", "module_stdout", "exception"))
    text = "\n".join(texts)
    if _TOO_OLD.search(text):
        return f"the Python of this host is too old; expected {OLDEST_PYTHON} or newer: {_WAY}"
    if _MISSING.search(text):
        return f"there is no Python on this host; expected {OLDEST_PYTHON} or newer: {_WAY}"
    return None
