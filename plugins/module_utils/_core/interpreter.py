# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the versions of ansible-core and of the Python of a host. Pure.

An unsupported Python fails before any code of this collection is executed, or when `finish` runs a module.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .errors import OLDEST_PYTHON, OllamaError, unsupported_python

OLDEST_CORE = "2.16"
# An ansible-core that requires a newer Python reports its version. Otherwise the import fails, and the paths in the
# traceback contain the version of the standard library.
_MINIMUM = re.compile(r"requires (?:a minimum of )?Python (?:version )?(3\.\d+)")
_IMPORT = re.compile(r"future feature annotations is not defined|SyntaxError: |/python(?:2\.\d+|3\.[0-7])/")
_MISSING = re.compile(r"(python[0-9.]*|platform-python): (command )?not found|python[0-9.]*: No such file or directory")


def check_core(version: str) -> None:
    """Refuse an ansible-core that is too old, for which ansible-core itself only prints a warning.

    :raises OllamaError: ``ansible_unsupported``.
    """
    if _minor(version) < _minor(OLDEST_CORE):
        raise OllamaError("ansible_unsupported", f"ansible-core {version} is too old; expected {OLDEST_CORE} or newer")


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def python_problem(result: t.Mapping[str, t.Any]) -> OllamaError | None:
    """Return why the Python of a host cannot run the modules of this collection, or None if it can.

    :param result: the result of a module that failed.
    """
    if not result.get("failed") or "failure" in result:
        return None
    texts = (str(result.get(key) or "") for key in ("msg", "module_stderr", "module_stdout", "exception"))
    text = "\n".join(texts)
    minimum = _MINIMUM.search(text)
    if minimum:
        return unsupported_python(oldest=max(_minor(minimum[1]), OLDEST_PYTHON))
    if _IMPORT.search(text):
        return unsupported_python()
    if _MISSING.search(text):
        return unsupported_python("there is no Python on this host")
    return None
