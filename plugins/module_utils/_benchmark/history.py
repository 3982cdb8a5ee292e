# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of benchmarks on the controller: a directory for each host, with a JSON file for each run.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from urllib.parse import quote

from .._core import fs
from .._core.errors import OllamaError
from .._core.http import parse_json
from .._core.owner import read_regular
from . import plots, results
from .document import checked

_LIMIT = 16 << 20


def directory(folder: str, host: str) -> str:
    """Return the directory of a host, which is inside the folder for any host name."""
    name = quote(host, safe=" ")
    return os.path.join(folder, name.replace(".", "%2E") if set(name) <= {"."} else name)


def paths(folder: str, host: str) -> list[str]:
    """Return the files of a host, the oldest first."""
    try:
        names = os.listdir(directory(folder, host))
    except OSError:
        return []
    return [os.path.join(directory(folder, host), name) for name in sorted(names) if name.endswith(".json")]


def load(path: str) -> results.Document | None:
    """Return a result; None for any other file, or another schema."""
    try:
        return checked(parse_json(read_regular(path, _LIMIT)))
    except (OSError, ValueError):
        return None


def latest(folder: str, host: str) -> results.Document | None:
    """Return the newest result of a host, or None."""
    return next((found for path in reversed(paths(folder, host)) if (found := load(path))), None)


def for_report(folder: str, hosts: t.Iterable[str]) -> dict[str, t.Any]:
    """Return the newest result of each host in the form for the report: by model, with plots as SVG texts."""
    found = {}
    for host in hosts:
        document = latest(folder, host)
        # A file that was changed manually is ignored.
        with contextlib.suppress(KeyError, TypeError, ArithmeticError, ValueError):
            if document:
                found[host] = dict(results.for_report(document), plots=plots.plots([document]))
    return found


def keep(folder: str, host: str, document: results.Document, threshold: float) -> dict[str, t.Any]:
    """Write a result, compare it with the previous one, and return ``path``, ``compared_with`` and ``regressions``.

    :param document: the result of the host; only the keys of the schema are written.
    :param threshold: percent.
    :raises OllamaError: ``results_unwritable``, or ``response_invalid`` for a result of another form.
    """
    try:
        document = {**checked(document), "inventory_hostname": host}
    except ValueError as exc:
        raise OllamaError("response_invalid", f"{host}: {exc}") from None
    before, regressions = None, []
    for path in reversed(paths(folder, host)):
        previous = load(path)
        if previous:
            before, regressions = path, _compare(previous, document, threshold)
            break
    name = document["started"].replace(":", "").replace("-", "")
    path = os.path.join(directory(folder, host), f"{name}.json")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fs.write_atomic(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
    except OSError as exc:
        raise OllamaError("results_unwritable", f"results_dir: cannot write {path}: {exc.strerror}") from None
    return {"path": path, "compared_with": before, "regressions": regressions}


def _compare(before: results.Document, after: results.Document, threshold: float) -> list[results.Document]:
    try:
        return results.compare(before, after, threshold)
    except (KeyError, TypeError, ArithmeticError):
        # The file was changed manually.
        return []
