# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the Makefile report what failed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

FAKE_MAKE = """#!/bin/sh
seq 1 30
echo "ran $2"
[ "$2" != bad ]
"""

ECHO_MODULE = """
from ansible.module_utils.basic import AnsibleModule

def main():
    module = AnsibleModule({"name": {"required": True}}, supports_check_mode=True)
    module.exit_json(changed=not module.check_mode, name=module.params["name"], diff=module._diff)
"""


def run_parts(tmp_path: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a `make` that fails on the part `bad`."""
    fake = tmp_path / "make"
    fake.write_text(FAKE_MAKE)
    fake.chmod(0o755)
    command = [sys.executable, "-m", "scripts.run_parts", *parts]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "MAKE": str(fake)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_run_parts_goes_on_after_a_failure_and_fails(tmp_path: Path) -> None:
    done = run_parts(tmp_path, "good", "bad", "last")
    assert done.returncode == 1
    assert "ran last" in done.stdout
    rows = done.stdout.splitlines()[-4:]
    assert [row.split()[0] for row in rows] == ["good", "bad", "last", "total"]
    assert rows[1].endswith("FAIL (exit 1)")
    assert rows[3].endswith("1 of 3 failed: bad")


def test_run_parts_passes_when_all_pass(tmp_path: Path) -> None:
    done = run_parts(tmp_path, "good", "last")
    assert done.returncode == 0
    assert done.stdout.endswith("all 2 passed\n")


def test_run_parts_keeps_apart_what_runs_at_once(tmp_path: Path) -> None:
    done = run_parts(tmp_path, "--jobs", "2", "good", "bad", "last")
    assert done.returncode == 1
    for part, result in (("good", "passed"), ("bad", "FAILED"), ("last", "passed")):
        numbers = "".join(f"{number}\n" for number in range(1, 31))
        assert f"=== {part}\n{numbers}ran {part}\n=== {part}: {result} after" in done.stdout


def test_run_parts_repeats_the_end_of_what_failed_after_the_table(tmp_path: Path) -> None:
    done = run_parts(tmp_path, "--jobs", "2", "good", "bad", "last")
    before, _total, after = done.stdout.rpartition("1 of 3 failed: bad\n")
    assert [row.split()[0] for row in before.splitlines()[-4:]] == ["good", "bad", "last", "total"]
    assert after.splitlines()[1:] == ["=== bad: its last lines", *map(str, range(12, 31)), "ran bad"]


def test_run_parts_refuses_to_run_nothing(tmp_path: Path) -> None:
    assert run_parts(tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("def test_x(): pass", pytest.ExitCode.OK),
        ("import pytest\ndef test_x(): pytest.skip('no')", pytest.ExitCode.NO_TESTS_COLLECTED),
        ("", pytest.ExitCode.NO_TESTS_COLLECTED),
        ("def test_x(): assert False", pytest.ExitCode.TESTS_FAILED),
    ],
)
def test_pytest_fails_a_run_without_executed_tests(tmp_path: Path, body: str, status: pytest.ExitCode) -> None:
    assert run_pytest(tmp_path, body).returncode == status


@pytest.mark.parametrize("passes", [True, False])
def test_a_run_has_its_own_directory_which_is_kept_after_a_failure(tmp_path: Path, passes: bool) -> None:
    body = f"def test_x(tmp_path): (tmp_path / 'file').write_text(''); assert {passes}"
    run_pytest(tmp_path, body, TMPDIR=str(tmp_path))
    kept = [path.parts for path in tmp_path.glob("pytest-kaido-*/run/test_x0/file")]
    assert len(kept) == (not passes)
    assert not list(tmp_path.glob("pytest-of-*"))


def run_pytest(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run one file of tests with the settings of this project."""
    (folder / "test_x.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, "--rootdir", str(folder)]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", str(folder / "test_x.py")],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def echo(tmp_path: Path) -> types.ModuleType:
    """A module that prints its arguments."""
    source = tmp_path / "echo.py"
    source.write_text(ECHO_MODULE)
    spec = importlib.util.spec_from_file_location("echo", source)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_run_module_returns_what_the_module_exits_with(echo: types.ModuleType, run_module: RunModule) -> None:
    result = run_module(echo, {"name": "a"}, diff=True)
    assert (result["failed"], result["changed"], result["name"], result["diff"]) == (False, True, "a", True)
    assert run_module(echo, {"name": "a"}, check=True)["changed"] is False


def test_run_module_goes_through_the_argument_spec(echo: types.ModuleType, run_module: RunModule) -> None:
    result = run_module(echo, {"name": "a", "nme": "b"})
    assert result["failed"] is True
    assert "nme" in result["msg"]


def test_pinned_requirements_name_no_place_of_this_machine() -> None:
    pinned = (ROOT / "requirements" / "dev.txt").read_text()
    assert "--hash=sha256:" in pinned
    assert not [line for line in pinned.splitlines() if "://" in line or "--index" in line or "--find-links" in line]
