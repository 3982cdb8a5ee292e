# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of AnsibleModule as a module's end needs, for thousands of runs in one process."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import errors


class Module:
    """A module with its parameters; what it returned is in `result`."""

    check_mode = False

    def __init__(self, params: dict[str, t.Any] | None = None, verbosity: int = 0) -> None:
        self.params = params or {}
        self._verbosity = verbosity
        self.warnings: list[str] = []
        self.result: dict[str, t.Any] = {}

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: t.Any) -> None:
        self.result = {"failed": False, **result}
        raise SystemExit(0)

    def fail_json(self, **result: t.Any) -> None:
        self.result = {"failed": True, **result}
        raise SystemExit(1)

    def finish(self, run: t.Callable[[t.Any, bool], dict[str, t.Any]]) -> dict[str, t.Any]:
        with pytest.raises(SystemExit):
            errors.finish(t.cast("t.Any", self), run)
        return self.result
