# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduled verification of a store, and its findings."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import program as program_module
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config
from ansible_collections.kaido.ollama.plugins.module_utils._store import findings as findings_module
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.findings import Findings
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model_verify

from tests.unit.module_utils.monitor.hosts import WEIGHTS, change, damage, promtool, values


def test_damage_fails_the_run_and_is_a_metric(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert program_module.verify(config) == 0
    path = damage(config)
    assert program_module.verify(config) == 1
    assert "has wrong content" in capsys.readouterr().err
    value = values(program_module.collect(config))
    assert value("blobs", state="damaged") == 1
    assert value("model_damaged", model="tiny:latest") == 1
    assert value("verification_success") == 0
    # It repairs nothing.
    assert path.read_bytes() == bytes(path.stat().st_size)


def test_implausible_names_are_one_line_each(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    [tag] = Path(config.models_dir).glob("manifests*/*/library/tiny/latest")
    for name in (b"a\nkaido_ollama_up 1", b"\xff\x1b[2J"):
        Path(os.fsdecode(os.path.join(os.fsencode(tag.parent), name))).write_bytes(b"{")
    assert program_module.verify(config) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and "its name is invalid" in line for line in lines)
    text = program_module.collect(config)
    assert values(text)("up") == 0
    assert promtool("check", "metrics", stdin=text) == ""


def test_a_changed_blob_is_no_longer_verified(config: Config) -> None:
    assert program_module.verify(config) == 0
    path = Path(Store(config.models_dir).blob_path(WEIGHTS))
    path.write_bytes(path.read_bytes())
    value = values(program_module.collect(config))
    assert (value("blobs", state="unverified"), value("blobs", state="damaged")) == (1, 0)


def test_a_blob_of_another_size_is_damaged_before_any_verification(config: Config) -> None:
    damage(config, size_too=True)
    assert values(program_module.collect(config))("blobs", state="damaged") == 1


@pytest.mark.parametrize("share", [1, 30])
def test_a_share_of_the_store_is_verified_and_the_next_run_continues(config: Config, share: int) -> None:
    damage(config)
    total = len({blob.digest for entry in Store(config.models_dir).entries() for blob in entry.blobs})
    statuses, left = [], []
    for _run in range(total):
        statuses.append(program_module.verify(change(config, share=share)))
        left.append(values(program_module.collect(config))("blobs", state="unverified"))
        if not left[-1]:
            break
    assert left[0] > 0
    assert left[-1] == 0
    assert sorted(left, reverse=True) == left
    assert statuses[-1] == 1


def test_an_interrupted_run_keeps_its_findings(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    count: list[int] = []

    def killed(*arguments: t.Any, **options: t.Any) -> t.Any:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return audit(*arguments, **options)

    monkeypatch.setattr(findings_module, "audit", killed)
    with pytest.raises(KeyboardInterrupt):
        program_module.verify(config)
    assert len(Findings.load(config.findings).blobs) == 2


def test_the_least_recently_verified_blob_is_read_first(config: Config) -> None:
    assert program_module.verify(config) == 0
    findings = Findings.load(config.findings)
    findings.blobs[WEIGHTS].verified_at = 1.0
    findings.save()
    assert values(program_module.collect(config))("verification_oldest_timestamp_seconds") == 1
    program_module.verify(change(config, share=0.001))
    assert Findings.load(config.findings).blobs[WEIGHTS].verified_at > 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 1, "blobs": {}, "models": {}, "finished": 1' + "0" * 400 + "}",
        '{"schema": 1, "blobs": {}, "models": {}, "finished": 1e999}',
        '{"schema": 1, "blobs": {}, "models": {}, "finished": NaN}',
        '{"schema": 1, "blobs": {}, "models": {}, "finished": -1}',
        '{"schema": 1, "blobs": {}, "models": {"a": 1}, "finished": 1}',
        '{"schema": 1, "blobs": {"x": {"seen": [1e999], "verified_at": 1, "problem": null}}}',
        '{"schema": 2}',
        '{"schema": 1, "blobs": {"x": 1}}',
        "[" * 100000,
    ],
)
def test_findings_that_cannot_be_read_count_as_none(config: Config, text: str) -> None:
    Path(config.findings).write_text(text)
    assert Findings.load(config.findings) == Findings(config.findings)
    assert program_module.verify(config) == 0


def test_findings_behind_a_link_or_a_pipe_are_not_read(config: Config, tmp_path: Path) -> None:
    assert program_module.verify(config) == 0
    (tmp_path / "link").symlink_to(config.findings)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        assert Findings.load(str(tmp_path / name)).blobs == {}


def test_model_verify_only_reads_reported_blobs_again(
    config: Config, run_module: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The findings make it read a blob again; they never make a blob count as verified."""
    monkeypatch.setattr(findings_module.doubt, "__defaults__", (config.findings,))
    params = {"models_dir": config.models_dir, "state_dir": str(tmp_path / "state"), "api_url": "http://127.0.0.1:1"}
    assert program_module.verify(config) == 0
    first = run_module(model_verify, params)
    assert first["hashed_blobs"] == first["blobs"]
    assert run_module(model_verify, params)["hashed_blobs"] == 0
    findings = Findings.load(config.findings)
    findings.blobs[WEIGHTS].problem = "has wrong content"
    findings.save()
    again = run_module(model_verify, params)
    assert (again["hashed_blobs"], again["damaged"]) == (1, [])
