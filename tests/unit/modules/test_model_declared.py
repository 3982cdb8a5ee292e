# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model with elements that are more than names: custom models, bundles, memory, tests; and what it reports."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import Name
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.job import new_progress_file, remove_ended
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store import state
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import lock_users, memory_path
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model_export, model_stop, server_info

from tests import standin
from tests.standin import until
from tests.standin.registry import make_model
from tests.unit.modules.model.world import World, damage

GO_TEMPLATE = '{{ if .System }}<|system|>{{ .System }}{{ end }}{{ .Prompt }} \u201cquotes\u201d """ and 50 % $HOME'


@pytest.fixture(params=["0.35.1", "0.40.2"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    world = World(tmp_path, request.param, run_module)

    def local(_source: Source, name: t.Any, **options: t.Any) -> t.Any:
        return look_up(Source(world.upstream.host, insecure=True), name, **options)

    monkeypatch.setattr(sources_module, "look_up", local)
    env = {"STANDIN_UPSTREAM": world.upstream_url, "STANDIN_TIME_SCALE": "0.01"}
    with world.upstream, standin.running(request.param, world.models_dir, env) as world.server:
        yield world


def test_one_list_has_everything_and_a_second_run_changes_nothing(world: World) -> None:
    models = [
        {"name": "helper:1", "from": "a", "template": GO_TEMPLATE, "system": "Be brief.", "aliases": ["help"]},
        {"name": "a", "loaded": True, "probe": True},
        {"name": "b:1b", "loaded": False, "verify": "full"},
    ]
    predicted = world.run(models=models, check=True)
    assert not predicted["failed"], predicted
    assert predicted["changed"]
    assert predicted["warnings"] == [], "the base is part of the list"
    assert world.tags() == {}
    pending = world.run(models=models, environment={DETACH: "1"})
    assert pending["pending"]
    assert world.tags() == {}
    done = world.run(models=models)
    assert not done["failed"], done
    assert [row["changed"] for row in done["models"]] == [True, True, True]
    assert sorted(world.tags()) == ["a:latest", "b:1b", "help:latest", "helper:1"]
    assert world.tags()["help:latest"] == world.tags()["helper:1"]
    shown = Client(world.server.url).show(Name("registry.ollama.ai", "library", "helper", "1"))
    assert shown is not None
    assert shown["template"] == GO_TEMPLATE
    assert done["models"][1]["memory"]["forever"]
    assert done["models"][1]["probe"]["response"]
    for check in (True, False):
        again = world.run(models=models, check=check, environment={DETACH: "1"})
        assert "pending" not in again
        assert not again["changed"], again["models"]
        assert [row["actions"] for row in again["models"]] == [[], [], []]


def test_a_custom_model_follows_its_base(world: World) -> None:
    models = [{"name": "a", "state": "latest"}, {"name": "helper:1", "from": "a", "system": "Be brief."}]
    assert not world.run(models=models)["failed"]
    before = world.tags()["helper:1"]
    make_model(world.upstream_dir, "a", size=41_000, seed=9)
    predicted = world.run(models=models, check=True)
    assert predicted["models"][1]["changed"]
    done = world.run(models=models)
    assert not done["failed"], done
    assert done["models"][1]["changed"]
    assert world.tags()["helper:1"] != before
    assert not world.run(models=models)["changed"]


def test_a_custom_model_is_removed_with_its_record(world: World) -> None:
    recipe = {"name": "helper:1", "from": "a", "system": "Be brief."}
    assert not world.run(models=["a", recipe])["failed"]
    assert world.run(models=[{"name": "helper:1", "state": "absent"}])["changed"]
    assert list(world.tags()) == ["a:latest"]
    assert world.run(models=["a", recipe])["changed"]


def test_one_invalid_model_of_each_kind_does_not_affect_the_others(world: World) -> None:
    models = [
        {"name": "custom:1", "files": [str(world.models_dir / "missing.gguf")]},
        {"name": "bundled:1", "source": str(world.models_dir / "missing.tar")},
        "nope:1b",
        {"name": "a", "probe": {"tokens_per_second": 1e12}},
        {"name": "other:1", "from": "unknown"},
        "b:1b",
    ]
    done = world.run(models=models)
    assert done["msg"].startswith("5 models failed: ")
    for text in ("missing.gguf", "missing.tar", "nope:1b", "tokens/s", "unknown"):
        assert text in done["msg"]
    assert sorted(world.tags()) == ["a:latest", "b:1b"]


def test_a_bundle_is_the_source_of_one_model(world: World, run_module: t.Any, tmp_path: Path) -> None:
    make_model(tmp_path / "other", "offline", size=20_000, seed=50)
    made = run_module(model_export, {"models_dir": str(tmp_path / "other"), "dest": str(tmp_path / "bundle.tar")})
    assert not made["failed"], made
    models = ["a", {"name": "offline", "source": str(tmp_path / "bundle.tar")}]
    predicted, done = world.run(models=models, check=True), world.run(models=models)
    assert not done["failed"], done
    assert done["diff"] == predicted["diff"]
    assert [row["source"] for row in done["models"]] == ["registry.ollama.ai", str(tmp_path / "bundle.tar")]
    (tmp_path / "bundle.tar").unlink()
    assert not world.run(models=models)["changed"]


def test_findings_repairs_and_removals_are_sentences(world: World) -> None:
    assert world.run(models=["a", "b:1b", "kaido/c:q8"])["messages"] == []
    damage(world.blob("model"), "flip_bit")
    models = ["a", {"name": "b:1b", "state": "absent"}]
    predicted = world.run(models=models, exclusive=True, check=True)["messages"]
    done = world.run(models=models, exclusive=True)["messages"]
    for messages, removed in ((predicted, "would be removed"), (done, "removed")):
        assert messages[0].startswith("a:latest: damaged: model sha256:")
        assert messages[0].endswith("has wrong content")
        assert "repaired from registry.ollama.ai" in messages[1]
        assert messages[2:] == [f"b:1b: {removed}", f"kaido/c:q8: {removed}, as it is not declared"]
    assert world.run(models=models, exclusive=True)["messages"] == []


def test_removals_of_undeclared_models_are_announced(world: World) -> None:
    world.run(models=["a", "b:1b"])
    pending = world.run(models=["a"], exclusive=True, environment={DETACH: "1"})
    assert (pending["pending"], pending["removals"]) == (True, ["b:1b"])
    assert len(world.tags()) == 2
    assert world.run(models=["a"], exclusive=True)["removed"] == ["b:1b"]


# --- the server


def test_a_server_is_checked_without_any_model(world: World, run_module: t.Any) -> None:
    address = world.server.url.split("//", 1)[1]
    result = run_module(server_info, {"api_url": world.server.url, "version": world.server.version, "address": address})
    assert (result["failed"], result["server_version"]) == (False, world.server.version)
    assert result["can_talk_to_ollama"]
    assert "ollama_listening" in result["ansible_facts"]
    for options, code in (({"version": "0.1.0"}, "version_mismatch"), ({"address": "127.0.0.1:1"}, "address_mismatch")):
        assert run_module(server_info, {"api_url": world.server.url, **options})["failure"]["code"] == code


def test_no_server_is_a_failure_except_in_check_mode(run_module: t.Any) -> None:
    options = {"api_url": "http://127.0.0.1:1", "startup_timeout": 0, "version": "0.35.1"}
    assert run_module(server_info, options)["failure"]["code"] == "server_unreachable"
    result = run_module(server_info, options, check=True)
    assert (result["failed"], result["can_talk_to_ollama"], result["server_version"]) == (False, False, None)
    assert run_module(server_info, {**options, "startup_timeout": -1})["failure"]["code"] == "value_invalid"


# --- jobs

HOLD = """
import sys, time
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import exclusive
with exclusive(sys.argv[1], seconds=600) as alone:
    print(alone, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def two_jobs(path: str) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Start two processes, of which one holds the lock and the other one waits for it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, path]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as second,
    ):
        yield first, second


def test_running_jobs_are_stopped(run_module: t.Any, tmp_path: Path) -> None:
    options = {"models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state")}
    path = memory_path(Store(options["models_dir"]), options["state_dir"])
    assert not run_module(model_stop, options)["changed"]
    with two_jobs(path) as (first, second):
        jobs = sorted([first.pid, second.pid])
        # One holds the lock, the other one waits for it.
        until(lambda: lock_users(path) == jobs, "both have opened the lock")
        found = run_module(model_stop, options, check=True)
        assert (found["changed"], found["stopped"]) == (True, jobs)
        stopped = run_module(model_stop, options)
        assert (stopped["changed"], stopped["stopped"]) == (True, jobs)
        until(lambda: None not in (first.poll(), second.poll()), "both have ended")
    assert not run_module(model_stop, options)["changed"]


def test_jobs_are_stopped_whose_open_files_are_hidden(
    run_module: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without CAP_SYS_PTRACE, for processes that have acted as another account."""
    options = {"models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state")}
    path = memory_path(Store(options["models_dir"]), options["state_dir"])
    with two_jobs(path) as (first, second):
        jobs = sorted([first.pid, second.pid])
        until(lambda: lock_users(path) == jobs, "both have opened the lock")
        monkeypatch.setattr(state, "_has_open", lambda *_: False)
        [holder] = run_module(model_stop, options, check=True)["stopped"]
        assert holder in jobs
        stopped = run_module(model_stop, options)["stopped"]
        assert holder in stopped
        monkeypatch.undo()
        # The waiting one holds the lock at the latest now.
        until(lambda: run_module(model_stop, options)["stopped"] == [], "both have ended")


def test_the_files_of_ended_jobs_are_removed_and_others_stay(tmp_path: Path) -> None:
    path = str(tmp_path / "store-1.json")
    job_file, strange = tmp_path / "j123.45", tmp_path / "precious"
    job_file.write_text('{"ansible_job_id": "j123.45"}')
    strange.write_text('{"ansible_job_id": "precious"}')
    files = [Path(new_progress_file(path)) for _number in range(3)]
    for file, named in zip(files, (job_file, strange, job_file), strict=True):
        file.write_text("{}")
        Path(f"{file}.job").write_text(str(named))
    for file in files[:2]:
        os.utime(file, (time.time() - 3600,) * 2)
    remove_ended(path)
    assert not job_file.exists()
    assert strange.exists()
    assert [file.exists() for file in files] == [False, False, True]
    assert len(list(tmp_path.glob("*.progress.job"))) == 1
