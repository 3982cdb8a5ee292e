# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs are run in one way: bounded in time and output, in the C locale, with the standard directories."""

from __future__ import annotations

import ast
import contextlib
import os
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import command
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError

from tests.conftest import ROOT
from tests.standin import until

MODULE_UTILS = ROOT / "plugins" / "module_utils"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "program"
    path.parent.mkdir()
    return path


def write(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def running_in(group: int) -> list[str]:
    """The processes of a process group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, process_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                found.append(path.parent.name)
    return found


def test_result_has_status_and_both_outputs(script: Path) -> None:
    result = command.run([write(script, "echo out; echo first >&2; echo last >&2; exit 3"), "argument"])
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "first\nlast\n")
    assert result.reason == "last"


@pytest.mark.parametrize(("body", "reason"), [("exit 4", "exit status 4"), ("echo only; exit 1", "only")])
def test_reason_without_standard_error(script: Path, body: str, reason: str) -> None:
    assert command.run([write(script, body)]).reason == reason


def test_locale_path_and_standard_input_are_fixed(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/usr/bin:relative::/bin")
    monkeypatch.setenv("KEPT", "yes")
    output = command.run([write(script, 'echo "$LC_ALL $KEPT $PATH"; cat')]).stdout
    locale, kept, path = output.split()
    assert (locale, kept) == ("C", "yes")
    directories = path.split(":")
    assert directories[:2] == ["/usr/bin", "/bin"]
    assert {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"} <= set(directories)
    assert "relative" not in directories
    assert len(directories) == len(set(directories))


def test_environment_replaces_the_variables_of_this_process(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "yes")
    path = write(script, 'echo "$KEPT,$GIVEN,$LC_ALL"')
    assert command.run([path], environment={"GIVEN": "1"}).stdout == ",1,C\n"


def test_standard_input(script: Path) -> None:
    text = "line\n" * 100_000
    assert command.run([write(script, "wc -c")], stdin=text).stdout.strip() == str(len(text))


def test_output_is_bounded_and_the_program_ends(script: Path) -> None:
    result = command.run([write(script, "head -c 5000000 /dev/zero; echo end >&2")], limit=1000)
    assert (len(result.stdout), result.stderr, result.status) == (1000, "end\n", 0)


def test_output_is_text_whatever_its_bytes(script: Path) -> None:
    assert command.run([write(script, r"printf 'a\377b'")]).stdout == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("body", ["sleep 600", "sleep 600 & wait", "exec >&- 2>&-; sleep 600", "yes"])
def test_timeout_ends_the_program_and_what_it_started(script: Path, body: str) -> None:
    with pytest.raises(OllamaError) as error:
        command.run([write(script, f"echo $$ >{script}.pid\n{body}"), "secret", "more"], timeout=0.5)
    assert error.value.code == "command_timeout"
    assert error.value.message == "program secret did not end within 0.5 s"
    until(lambda: not running_in(int(Path(f"{script}.pid").read_text())))


def test_background_process_is_not_waited_for(script: Path) -> None:
    result = command.run([write(script, f"sleep 600 & echo $! >{script}.pid; echo done")], timeout=60)
    os.kill(int(Path(f"{script}.pid").read_text()), 9)
    assert (result.status, result.stdout) == (0, "done\n")


def test_missing_program() -> None:
    for argv in (["no-such-program-here"], ["/nonexistent/program"]):
        with pytest.raises(OllamaError) as error:
            command.run(argv)
        assert error.value.code == "program_missing"
        assert argv[0] in error.value.message
        assert command.attempt(argv) is None


def test_program_that_cannot_be_started(script: Path) -> None:
    script.write_bytes(b"\0not a program")
    script.chmod(0o755)
    with pytest.raises(OllamaError) as error:
        command.run([str(script)])
    assert error.value.code == "command_failed"


def test_check_names_program_and_reason(script: Path) -> None:
    path = write(script, "echo why >&2; exit 2")
    with pytest.raises(OllamaError) as error:
        command.check([path, "first", "private"])
    assert (error.value.code, error.value.message) == ("command_failed", "program first failed: why")
    assert error.value.details == {"program": path, "status": 2}
    assert command.check([write(script, "echo fine")]).stdout == "fine\n"


def test_stream_yields_output_of_a_file(script: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"skipped content")
    with source.open("rb", buffering=0) as file:
        file.seek(8)
        with command.stream([write(script, "cat; exit 5")], stdin=file) as running:
            assert running.stdout.read() == b"content"
    assert running.status == 5


def test_stream_ends_a_program_that_is_not_read_to_the_end(script: Path) -> None:
    with command.stream([write(script, "yes")]) as running:
        assert running.stdout.read(2) == b"y\n"
    assert running.status != 0


def test_stream_timeout_ends_the_output(script: Path) -> None:
    with command.stream([write(script, "exec sleep 600")], timeout=0.2) as running:
        assert running.stdout.read() == b""
    assert running.status == -9


# Files of other packages that have their own call until they are changed.
REMAINING = ("_gpu/", "_monitor/", "_preflight/", "_service/")


def test_no_other_file_starts_processes() -> None:
    importing = set()
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and any(name.name == "subprocess" for name in node.names):
                importing.add(str(path.relative_to(MODULE_UTILS)))
    assert {name for name in importing if not name.startswith(REMAINING)} == {"_core/command.py"}
