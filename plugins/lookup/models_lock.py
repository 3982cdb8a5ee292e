# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the lock file of the playbook lock."""

from __future__ import annotations

DOCUMENTATION = r"""
name: models_lock
short_description: Read the digests of a lock file of models
version_added: 1.0.0
description:
  - Returns the locked digests by model name, for the option O(kaido.ollama.model#module:lock).
  - Fails with one line if the file is damaged or has no entry for a declared model. Names are compared
    case-insensitively.
author:
  - kaido.ollama contributors (@kaido)
options:
  _terms:
    description:
      - The path of the lock file, or its content as a mapping.
      - An empty term selects C(models.lock.yml) beside the inventory, or no lock if that file does not exist.
    type: raw
    required: true
  models:
    description: The declared models, as in O(kaido.ollama.model#module:models). Each of them needs an entry, unless its
      declaration has a digest.
    type: list
    elements: raw
    default: []
seealso:
  - plugin: kaido.ollama.model_lock
    plugin_type: module
"""

EXAMPLES = r"""
- name: Manage the locked models
  kaido.ollama.model:
    models: "{{ ollama_models }}"
    lock: "{{ lookup('kaido.ollama.models_lock', 'models.lock.yml', models=ollama_models) }}"
"""

RETURN = r"""
_list:
  description: One mapping of model names to digests for each term, empty without a lock.
  type: list
  elements: dict
"""

import os
import reprlib
import stat
import typing as t

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils._core.errors import OllamaError
from ..module_utils._models.lockfile import REWRITE, Lock, digests, parse_lock

FILE_NAME = "models.lock.yml"
_SIZE_LIMIT = 4 << 20


def read_lock(path: str) -> Lock:
    """Read a lock file; raises ``lockfile_invalid``."""
    try:
        # A FIFO or a device must not block the play.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OllamaError("lockfile_invalid", f"{path}: cannot be read: it is not a regular file")
            body = file.read(_SIZE_LIMIT + 1)
        if len(body) > _SIZE_LIMIT:
            raise OllamaError("lockfile_invalid", f"{path}: it is larger than {_SIZE_LIMIT >> 20} MiB; {REWRITE}")
        data = yaml.safe_load(body.decode("utf-8"))
    except OSError as exc:
        raise OllamaError("lockfile_invalid", f"{path}: cannot be read: {exc.strerror}") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as exc:
        # The parser also raises the errors of the types, for example for the date 2026-13-01.
        mark = getattr(exc, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or ("it is too deep" if isinstance(exc, RecursionError) else "")
        raise OllamaError(
            "lockfile_invalid",
            f"{path}: it is not YAML{where}: {problem or 'unreadable characters or values'}; {REWRITE}",
        ) from None
    return parse_lock(data, what=path)


class LookupModule(LookupBase):
    """The lookup kaido.ollama.models_lock."""

    def run(
        self, terms: list[t.Any], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, str]]:
        """Return one mapping for each term."""
        models = kwargs.get("models") or []
        try:
            return [resolve(term, models, (variables or {}).get("inventory_dir")) for term in terms]
        except OllamaError as exc:
            raise AnsibleLookupError(exc.message) from None


def resolve(term: t.Any, models: t.Sequence[t.Any], inventory_dir: str | None) -> dict[str, str]:
    """Return the digests that a value of ollama_models_lock pins, by model name.

    :raises OllamaError: ``lockfile_invalid``.
    """
    if isinstance(term, dict):
        # An empty mapping disables the lock.
        return digests(parse_lock(term, what="the lock"), models, what="the lock") if term else {}
    if term and not isinstance(term, str):
        raise OllamaError(
            "lockfile_invalid",
            f"invalid value {reprlib.repr(term)}; expected the path of a lock file or its content as a mapping",
        )
    path = os.path.expanduser(term) if term else os.path.join(inventory_dir or "", FILE_NAME)
    if not term and not os.path.exists(path):
        return {}
    return digests(read_lock(path), models, what=path)
