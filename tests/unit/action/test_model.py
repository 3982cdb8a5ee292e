# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin model: live progress through a real ansible-playbook, on this host, against the stand-in."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import types
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display
from ansible_collections.kaido.ollama.plugins.action.model import ActionModule
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import PROGRESS_FILE, Progress, human
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import exclusive, memory_path
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.plugin_utils import job
from ansible_collections.kaido.ollama.plugins.plugin_utils.job import is_state, progress_line

from tests import standin
from tests.conftest import ROOT
from tests.standin.registry import Registry, make_model
from tests.unit.playbook import ansible

SIZE = 6_000_000


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (475_413, "475 kB"), (2_019_393_189, "2.0 GB"), (999_600, "1.0 MB")],
)
def test_sizes_are_human_readable(size: int, text: str) -> None:
    assert human(size) == text


def test_a_progress_line_has_percentage_and_remaining_time() -> None:
    row = {"total": 2_000_000_000, "completed": 500_000_000, "status": "pulling 0123"}
    waiting = {"total": 1_000_000_000, "completed": 0, "status": "waiting"}
    state = {"models": {"a:1b": row, "b:1b": waiting}, "note": ""}
    assert progress_line(state, 100e6) == "a:1b  16 %  500 MB of 3.0 GB  100 MB/s  0:25 left"
    assert progress_line(state, 0) == "a:1b  16 %  500 MB of 3.0 GB"
    assert progress_line(state, 0.1e6).endswith("6:56:40 left")
    row["completed"], waiting["completed"], row["status"] = 2_000_000_000, 1_000_000_000, "verifying sha256 digest"
    assert progress_line(state, 100e6) == "a:1b  100 %  3.0 GB of 3.0 GB  verifying sha256 digest"
    assert progress_line({"models": {}, "note": "waiting for another run"}, 0) == "waiting for another run"


def test_progress_is_kept_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    progress = Progress(str(path))
    progress.expect([("a", 100)])
    progress.update("a", 100, {"status": "pulling x", "digest": "sha256:x", "total": 90, "completed": 40})
    progress.finish()
    state = json.loads(path.read_text())
    assert state["models"] == {"a": {"total": 100, "completed": 40, "status": "pulling x"}}
    assert state["finished"] is True


class Play:
    """Run one task of module model by ansible-playbook on this host."""

    def __init__(self, folder: Path, server: standin.Running, registry: Registry) -> None:
        self.folder = folder
        self.registry = registry
        self.environment: dict[str, str] = {}
        self.arguments = {
            "name": f"{registry.host}/library/big",
            "insecure": True,
            "api_url": server.url,
            "models_dir": os.fspath(server.models_dir),
            "state_dir": str(folder / "state"),
        }

    def __call__(self, *options: str, task: dict[str, object] | None = None, **arguments: object) -> tuple[int, str]:
        module = {"kaido.ollama.model": {**self.arguments, **arguments}, "register": "done", **(task or {})}
        show = {
            "ansible.builtin.debug": {"msg": "actions={{ done.models[0].actions | default([]) }}"},
            "ignore_errors": True,
        }
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [module, show]}
        path = self.folder / "play.yml"
        path.write_text(json.dumps([play]))
        environment = {
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_ASYNC_DIR": str(self.folder / "async"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            **self.environment,
        }
        interpreter = f"ansible_python_interpreter={sys.executable}"
        done = ansible(
            "ansible-playbook", "-i", "localhost,", "-e", interpreter, *options, path, environment=environment
        )
        self.stdout = done.stdout
        return done.status, done.output


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    make_model(tmp_path / "upstream", "big", size=SIZE)
    with Registry(tmp_path / "upstream") as registry, standin.running(models_dir=tmp_path / "models") as server:
        yield Play(tmp_path, server, registry)


@pytest.fixture
def slow_play(play: Play) -> Play:
    """A pull that takes seconds: long enough to be observed by the action plugin."""
    play.registry.misbehave("/blobs/", ranges=True, rate=SIZE / 6)
    return play


LINE = re.compile(r"^localhost: \S+/library/big:latest  \d+ %  \S+ [kM]B of 6\.0 MB", re.MULTILINE)


def test_a_pull_shows_its_progress_and_a_second_run_shows_nothing(slow_play: Play) -> None:
    code, output = slow_play("--check")
    assert code == 0, output
    assert "would be pulled" in output
    assert not LINE.search(output)
    code, output = slow_play()
    assert code == 0, output
    assert len(LINE.findall(output)) >= 1
    assert "changed=1" in output
    assert "6.0 MB fetched" in output
    assert list((slow_play.folder / "async").iterdir()) == []
    assert not list((slow_play.folder / "state").glob("*.progress*"))
    code, output = slow_play("-vvv")
    assert code == 0, output
    assert not LINE.search(output)
    assert "changed=0" in output
    assert output.count("Using module file") == 1


@pytest.mark.parametrize(("found", "calls"), [({"changed": False, "models": [{"actions": ["seen"]}]}, 0), (None, 1)])
def test_the_result_of_an_earlier_task_replaces_the_call(play: Play, found: object, calls: int) -> None:
    earlier = json.dumps({"earlier": {"models": found}})
    code, output = play("-vvv", "--check", "-e", earlier, task={"vars": {"ollama__earlier_result": "earlier"}})
    assert code == 0, output
    assert output.count("Using module file") == calls
    assert ("actions=['seen']" in output) == (not calls), output


def test_async_set_by_the_user_works(play: Play) -> None:
    code, output = play(task={"async": 60, "poll": 1})
    assert code == 0, output
    assert "changed=1" in output
    assert not LINE.search(output)


def test_a_failing_pull_fails_the_task_with_its_code(slow_play: Play) -> None:
    code, output = slow_play(deadline=1)
    assert code == 2, output
    assert re.search(r'"?code"?: "?deadline', output), output
    assert "the deadline has passed" in " ".join(output.split())


def test_a_warning_does_not_stop_a_pull(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """ansible-core 2.19 has warnings as objects, older ones as text."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    mirror = "http://" + str(play.arguments["name"]).split("/", maxsplit=1)[0]
    code, output = play(name="big", insecure=False, mirrors=[mirror], mirrors_trusted=True)
    assert code == 0, output
    assert "the digest that a mirror offers is trusted" in " ".join(output.split())


def test_look_ups_use_the_proxies_of_the_server(play: Play) -> None:
    """Settings and environment of the server alike; the password of a proxy is not shown, however verbose the run."""
    role = yaml.safe_load((ROOT / "roles/ollama/vars/main.yml").read_text())
    variables = {
        "ollama__preflight": {
            "environment": {"HTTPS_PROXY": "http://p.lan:1", "NO_PROXY": "a.lan,b.lan", "OLLAMA_HOST": "x"}
        },
        "ollama_environment": {"http_proxy": "http://u:hunter2@q.lan:2", "SSL_CERT_FILE": "/ca.pem", "TOKEN": "no"},
    }
    # An invalid name ends the module before any registry is queried.
    _code, shown = play(
        "-vvv",
        task={"vars": variables},
        registry_environment=role["ollama__registry_environment"],
        name="no name",
    )
    assert "hunter2" not in shown
    for text in ("HTTPS_PROXY: http://p.lan:1", "http_proxy: http://***@q.lan:2", "NO_PROXY: a.lan,b.lan"):
        assert text in shown
    assert "TOKEN" not in shown
    assert "name_invalid" in shown


@pytest.mark.parametrize(
    "change",
    [
        {"models": []},
        {"models": {"a": 1}},
        {"models": {"a": {"total": "x", "completed": 1, "status": ""}}},
        {"models": {"a": {"total": 1, "completed": -1, "status": ""}}},
        {"models": {"a": {"total": True, "completed": 1, "status": ""}}},
        {"models": {"a": {"total": 1, "completed": 1}}},
        {"note": None},
        {"finished": 1},
        {"time": "now"},
    ],
)
def test_a_progress_file_of_another_form_is_not_read(change: dict[str, object]) -> None:
    state = {"models": {"a": {"total": 2, "completed": 1, "status": "x"}}, "note": "", "finished": False, "time": 1.5}
    assert is_state(state)
    assert not is_state({**state, **change})


def test_findings_repairs_and_removals_are_printed_without_diff(play: Play) -> None:
    assert play()[0] == 0
    blob = max((play.folder / "models" / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(bytes(SIZE))
    name = f"localhost: {play.arguments['name']}:latest"
    code, output = play("--check")
    assert code == 0, output
    assert f"{name}: damaged: model sha256" in output
    assert f"{name}: would be repaired from" in output
    code, output = play()
    assert code == 0, output
    assert f"{name}: damaged: model sha256" in output
    assert f"{name}: repaired from" in output
    code, output = play(state="absent")
    assert code == 0, output
    assert f"{name}: removed" in output


CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = "{name: facts_json, type: stdout, short_description: One document, description: [One document]}"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "facts_json"

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps({"hosts": sorted(stats.processed)}))
"""


def test_machine_readable_output_stays_valid(slow_play: Play) -> None:
    (slow_play.folder / "callbacks").mkdir()
    (slow_play.folder / "callbacks" / "facts_json.py").write_text(CALLBACK)
    slow_play.environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(slow_play.folder / "callbacks"),
        "ANSIBLE_STDOUT_CALLBACK": "facts_json",
    }
    code, output = slow_play()
    assert code == 0, output
    assert json.loads(slow_play.stdout) == {"hosts": ["localhost"]}
    assert LINE.search(output), "the progress is on stderr"


def test_a_run_that_waits_for_another_one_prints_that(play: Play) -> None:
    path = memory_path(Store(str(play.arguments["models_dir"])), str(play.arguments["state_dir"]))
    with exclusive(path, seconds=0) as alone:
        assert alone
        code, output = play(deadline=2)
    assert code == 2, output
    assert "localhost: waiting for another run on this host to end" in output
    assert "another run is still working on" in output


class Printed:
    """An action plugin without a connection, and the lines that it prints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self.release = threading.Event()
        self.blocked = False
        monkeypatch.setattr(Display, "display", lambda _display, text, stderr: self._display(text))
        for name in ("_SILENCE", "_PRINT", "_RECONNECT"):
            monkeypatch.setattr(job, name, 0.01)
        self.plugin = ActionModule.__new__(ActionModule)
        self.plugin._host = "h1"

    def _display(self, text: str) -> None:
        self.lines.append(text)
        self.release.set()
        if self.blocked:
            threading.Event().wait()


def test_a_host_that_does_not_reply_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(monkeypatch)

    def call() -> dict[str, object]:
        printed.release.wait()
        return {"stdout": "x"}

    assert printed.plugin._patiently(call) == {"stdout": "x"}
    assert printed.lines[0].startswith("h1: no reply for ")


def test_a_host_that_never_replies_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(monkeypatch)
    monkeypatch.setattr(job, "_UNREACHABLE", 0.0)
    with pytest.raises(AnsibleConnectionFailure, match="h1 does not reply; the next run waits for the job"):
        printed.plugin._patiently(lambda: {"stdout": str(threading.Event().wait())})


def test_a_lost_connection_is_named_once_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(monkeypatch)
    monkeypatch.setattr(job, "_PRINT", 60.0)
    errors = [AnsibleConnectionFailure("broken pipe"), AnsibleConnectionFailure("broken pipe")]

    def call() -> dict[str, object]:
        if errors:
            raise errors.pop()
        return {"stdout": "x"}

    assert printed.plugin._patiently(call) == {"stdout": "x"}
    assert printed.lines == ["h1: the connection was lost; retrying: broken pipe"]


def test_output_that_blocks_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(monkeypatch)
    printed.blocked = True
    for number in range(3):
        printed.plugin._print(f"line {number}")
    assert printed.lines == ["h1: line 0"]


def test_how_to_end_a_job_is_printed_before_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the process of the action plugin at once."""
    printed = Printed(monkeypatch)
    monkeypatch.setattr(job, "_PRINT", 60.0)
    monkeypatch.setattr(printed.plugin, "_task", types.SimpleNamespace(async_val=0), raising=False)

    def start(environment: dict[str, str], _variables: object, *, wrap_async: bool) -> t.NoReturn:
        assert (environment, wrap_async) == ({PROGRESS_FILE: "/progress"}, True)
        assert printed.lines == [f"h1: {job.CONTINUES}"]
        raise KeyboardInterrupt

    monkeypatch.setattr(printed.plugin, "_call", start)
    with pytest.raises(KeyboardInterrupt):
        printed.plugin._follow("/progress", {})
    assert "kaido.ollama.stop" in printed.lines[0]


@pytest.mark.parametrize(("handled", "status"), [("server_unreachable", 0), ("version_mismatch", 2)])
def test_a_failure_that_a_later_task_handles_does_not_end_the_play(play: Play, handled: str, status: int) -> None:
    task: dict[str, object] = {"vars": {"ollama__handled_failures": "{{ ['" + handled + "'] }}"}}
    code, output = play(task=task, api_url="http://127.0.0.1:9", startup_timeout=0)
    assert code == status, output
    assert "failed_when_result" not in output
