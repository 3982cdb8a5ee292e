# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that the unit tests share."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import typing as t
from pathlib import Path
from types import ModuleType

import pytest
from ansible.module_utils import basic
from ansible.module_utils.basic import AnsibleModule

from tests.unit import playbook

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, t.Any] | None = None) -> t.Iterator[None]:
        """Give a module its arguments, as ansible-core does from 2.18 on."""
        before = basic._ANSIBLE_ARGS
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args or {}}).encode()
        try:
            yield
        finally:
            basic._ANSIBLE_ARGS = before


RunModule = t.Callable[..., dict[str, t.Any]]


def pytest_configure(config: pytest.Config) -> None:
    playbook.skipped = config.getoption("--quick")


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Run a module's main() over its real argument spec; its result always has `failed` and `warnings`."""
    # Ansible keeps warnings per process, and in another place once an action plugin was imported.
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warnings.append(text))

    def run(
        module: ModuleType, params: dict[str, t.Any], *, check: bool = False, diff: bool = False
    ) -> dict[str, t.Any]:
        capsys.readouterr()
        warnings.clear()
        arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        # From ansible-core 2.22 on, modules return the values that the controller has to mask.
        result.pop("_ansible_new_secrets", None)
        return {"failed": False, **result, "warnings": [*warnings]}

    return run


@pytest.fixture
def public_path() -> t.Iterator[Path]:
    """A new directory that every account can enter, for tests with two user IDs: `tmp_path` is only for its owner."""
    path = Path(tempfile.mkdtemp(prefix="kaido-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
