"""What the unit tests share."""

from __future__ import annotations

import json
import typing as t
from types import ModuleType

import pytest
from ansible.module_utils.testing import patch_module_args

RunModule = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module's main() over its real argument spec; returns its result for Ansible, with `failed` always set."""

    def run(
        module: ModuleType, params: dict[str, t.Any], *, check: bool = False, diff: bool = False
    ) -> dict[str, t.Any]:
        capsys.readouterr()
        arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return {"failed": False, **result}

    return run
