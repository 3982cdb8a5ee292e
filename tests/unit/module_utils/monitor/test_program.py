# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring program as a file, its command line, and the publication of metrics."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import install, prometheus
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import program as program_module
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config

from tests import standin
from tests.unit.module_utils.monitor.hosts import change, values


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "monitoring.pyz"
    path.write_bytes(install.archive(sys.executable))
    path.chmod(0o755)
    return path


def run_program(program: Path, config: Config, command: str) -> subprocess.CompletedProcess[str]:
    """Run the program as its unit does, with a Python that has no Ansible."""
    path = program.with_name("config.json")
    path.write_text(json.dumps(vars(config)))
    argv = ["/usr/bin/python3", "-I", "-S", str(program), command, "--config", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})


def test_the_program_needs_only_python(program: Path, config: Config) -> None:
    # A server removes old blobs that no manifest of its own generation names.
    version = "0.35.1" if os.path.isdir(os.path.join(config.models_dir, "manifests")) else "0.40.2"
    with standin.running(version, config.models_dir) as server:
        config = change(config, api_url=server.url)
        verified = run_program(program, config, "verify")
        assert (verified.returncode, verified.stderr) == (0, "")
        done = run_program(program, config, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    published = run_program(program, config, "publish")
    assert (published.returncode, published.stderr) == (0, "")
    value = values(Path(config.output).read_text())
    assert value("up") == 1
    assert value("blobs", state="unverified") == 0
    assert Path(config.output).stat().st_mode & 0o777 == 0o644


def test_the_program_is_reproducible_and_contains_no_code_of_ansible(program: Path) -> None:
    assert program.read_bytes() == install.archive(sys.executable)
    names = set(install.sources("_monitor.program"))
    assert {"_monitor/program.py", "_store/store.py", "_gpu/usage.py", "_core/errors.py", "_core/__init__.py"} <= names
    assert not {"_server/argspec.py", "_models/models.py", "_monitor/install.py"} & names


@pytest.mark.parametrize("planted", ["fifo", "link", "directory", "device link", "huge", "socket"])
def test_publishing_reads_only_a_regular_file_of_bounded_size(config: Config, planted: str) -> None:
    """The account of the program can plant anything in its directory; nothing of it blocks or reaches node_exporter."""
    path = Path(config.collected)
    Path(config.output).write_text("old")
    (path.parent / "secret").write_text("kaido_ollama_up 1\n")
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "link":
        path.symlink_to(path.parent / "secret")
    elif planted == "device link":
        path.symlink_to("/dev/zero")
    elif planted == "directory":
        path.mkdir()
    elif planted == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(OllamaError) as caught:
        program_module.publish(config)
    assert caught.value.code == "metrics_unreadable"
    assert Path(config.output).read_text() == "old"


def test_publishing_keeps_only_metrics_of_the_collection(config: Config) -> None:
    own = '# HELP kaido_ollama_up x\n# TYPE kaido_ollama_up gauge\nkaido_ollama_up 1\nkaido_ollama_gpus{a="b"} 2\n'
    Path(config.collected).write_bytes(
        b"node_load1 7\n# TYPE node_load1 counter\n\xff\nkaido_ollamaup 1\n" + own.encode() + b" kaido_ollama_up 3\n"
    )
    assert program_module.publish(config) == 0
    assert Path(config.output).read_text() == own


def test_publishing_keeps_all_that_is_collected(full: str) -> None:
    assert prometheus.own_lines(full) == full


@pytest.mark.parametrize(
    ("changes", "command", "status", "message"),
    [
        ({"collected": "/nonexistent/out.prom"}, "metrics", 2, "/nonexistent/out.prom: No such file or directory"),
        ({"collected": "/nonexistent/out.prom"}, "publish", 2, "/nonexistent/out.prom: No such file or directory"),
        ({"findings": "/nonexistent/f.json"}, "verify", 2, "/nonexistent/f.json: No such file or directory"),
        ({"models_dir": "/nonexistent"}, "verify", 2, "/nonexistent: not found or not readable"),
        ({"user": ["x"], "colour": 1}, "metrics", 2, "unknown key colour"),
    ],
)
def test_invalid_input_is_one_line(
    config: Config, capsys: pytest.CaptureFixture[str], changes: dict[str, t.Any], command: str, status: int,
    message: str,
) -> None:  # fmt: skip
    path = Path(config.output).with_name("config.json")
    path.write_text(json.dumps({**vars(config), **changes}))
    assert program_module.main([command, "--config", str(path)]) == status
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert len(lines) == 1 or command == "metrics"


def test_a_full_disk_leaves_the_last_metrics_and_no_other_file(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (config.collected, config.output):
        Path(path).write_text("old")
    before = sorted(Path(config.output).parent.iterdir())
    monkeypatch.setattr(os, "replace", full_disk)
    for command in (program_module.write_metrics, program_module.publish):
        with pytest.raises(OllamaError, match="No space left on device"):
            command(config)
    assert sorted(Path(config.output).parent.iterdir()) == before
    assert Path(config.output).read_text() == "old"


def full_disk(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
