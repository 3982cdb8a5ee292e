"""What the unit tests share."""

from __future__ import annotations

import json
import shutil
import tempfile
import typing as t
from pathlib import Path
from types import ModuleType

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

RunModule = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Run a module's main() over its real argument spec; its result always has `failed` and `warnings`."""
    # Ansible keeps warnings for the whole process, and elsewhere once an action plugin was imported into it.
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
        return {"failed": False, **result, "warnings": [*warnings]}

    return run


@pytest.fixture
def public_path() -> t.Iterator[Path]:
    """A new directory that every account can enter, for tests with two user IDs: `tmp_path` is only for its owner."""
    path = Path(tempfile.mkdtemp(prefix="kaido-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
