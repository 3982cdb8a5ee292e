# SPDX-License-Identifier: GPL-3.0-or-later
"""The state between runs: runs at the same time, and a damaged state file."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._store import verification
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory, exclusive
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import (
    model,
    model_build,
    model_verify,
)

from tests.unit.conftest import RunModule


def test_an_audit_keeps_what_another_run_writes_meanwhile(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verification.verify

    def verify(store: Store, *args: t.Any, **options: t.Any) -> t.Any:
        other = Memory.of(store, arguments["state_dir"])
        other.recipes["a"] = {"recipe": "r", "files": {}}
        other.origins["b"] = {"registry": "x", "variant": "y"}
        other.pending.append("c:latest")
        other.verified["sha256:" + "1" * 64] = [1, 2, 3, 4, 5]
        other.save()
        return real(store, *args, **options)

    monkeypatch.setattr(model_verify, "verify", verify)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    kept = Memory.of(Store(str(models_dir)), arguments["state_dir"])
    assert kept.recipes["a"]["recipe"] == "r"
    assert kept.origins["b"] == {"registry": "x", "variant": "y"}
    assert kept.pending == ["c:latest"]
    assert len(kept.verified) == result["blobs"] + 1


def test_changes_of_several_runs_wait_for_each_other(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = max((models_dir / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    monkeypatch.setattr(model_verify, "_WAIT", 0.0)
    monkeypatch.setattr(model_verify, "_SAVE_WAIT", 0.0)
    path = Memory.of(Store(str(models_dir)), arguments["state_dir"]).path
    built = {**arguments, "name": "new", "from": "tiny", "system": "x", "timeout": 1}
    with exclusive(path, seconds=0) as alone:
        assert alone
        for module, params in (
            (model_verify, {**arguments, "repair": True}),
            (model, {**arguments, "name": "tiny", "deadline": 1}),
            (model_build, built),
        ):
            assert run_module(module, params)["failure"]["code"] == "lock_held"
        # An audit changes nothing, and reports.
        assert not run_module(model_verify, {**arguments, "fail_on": []})["failed"]
    assert damaged.exists()


STATE = {"verified": {"d": [1, 2, 3, 4, 5]}, "origins": {"m": {"registry": "r"}}, "pending": [], "recipes": {"m": {}}}


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[" * 100_000,
        "null",
        "[]",
        '{"verified": {"d": [Infinity]}}',
        '{"verified": null, "origins": 5, "pending": {"a": 1}, "recipes": []}',
        json.dumps({**STATE, "verified": {"d": [1e999, "x"]}}),
        json.dumps({**STATE, "pending": ["../../x", 5]}),
        json.dumps({**STATE, "recipes": {"tiny": {"files": {"/x": []}}, "m": {}}}),
        "x" * 100,
    ],
)
def test_a_damaged_state_file_is_never_a_crash(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, damage: str
) -> None:
    path = Path(Memory.of(Store(str(models_dir)), arguments["state_dir"]).path)
    path.parent.mkdir()
    path.write_text(damage)
    path.chmod(0o600)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    kept = Memory.of(Store(str(models_dir)), arguments["state_dir"])
    assert len(kept.verified) >= result["blobs"]
    assert ("m" in kept.recipes) == ('"m"' in damage), "what can be read is kept"
