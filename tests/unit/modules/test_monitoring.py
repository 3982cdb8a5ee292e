# SPDX-License-Identifier: GPL-3.0-or-later
"""Module monitoring: what it installs, what it leaves alone, and what it removes; systemd is a script."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import install
from ansible_collections.kaido.ollama.plugins.module_utils._store.findings import Finding, Findings
from ansible_collections.kaido.ollama.plugins.modules import monitoring

from tests.unit.conftest import RunModule

ME = "root"
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{here}/calls
case "$*" in
*show*) cat {here}/state 2>/dev/null; exit 0 ;;
enable*) printf 'ActiveState=active\\nUnitFileState=enabled\\n' >{here}/state ;;
disable*) rm -f {here}/state ;;
"stop kaido-ollama-metrics.service") rm -f {here}/running ;;
"start kaido-ollama-metrics.service")
  [ ! -e {here}/broken ] || exit 1
  # As systemd: a service that is starting is not started a second time.
  [ ! -e {here}/running ] || exit 0
  mkdir -p {here}/run; printf '# x\\nkaido_ollama_store_readable %s\\n' "$(cat {here}/readable)" >{here}/run/out.prom ;;
esac
"""


class World:
    """A host below a folder, and the module on it."""

    def __init__(self, here: Path, run_module: RunModule) -> None:
        self.here, self.run_module = here, run_module
        self.textfiles = here / "textfiles"
        self.record = here / "state.d/converge.json"
        self.files = {
            str(here / "etc/config.json"): "{}\n",
            str(here / "units/kaido-ollama-metrics.timer"): "[Timer]\n",
            str(here / "units/kaido-ollama-verification.timer"): "[Timer]\n",
        }

    def run(self, *, check: bool = False, diff: bool = False, **params: t.Any) -> dict[str, t.Any]:
        given = {"files": json.dumps(self.files), "textfile_directory": str(self.textfiles), "user": ME, **params}
        return self.run_module(monitoring, given, check=check, diff=diff)

    def calls(self) -> list[str]:
        """The calls of systemctl since the last time."""
        path = self.here / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("show")]

    def tree(self) -> set[str]:
        own = ("bin", "calls", "state", "readable", "running")
        found = {path.relative_to(self.here) for path in self.here.rglob("*")}
        return {str(path) for path in found if path.parts[0] not in own}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> World:
    assert os.geteuid() == 0, "run these tests as root: files of root's are compared by their owner"
    (tmp_path / "bin").mkdir()
    for name, text in {"systemctl": SYSTEMCTL, "journalctl": "#!/bin/sh\necho 'the last line'\n"}.items():
        (tmp_path / "bin" / name).write_text(text.replace("{here}", str(tmp_path)))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for name, path in {
        "PROGRAM": "lib/kaido-ollama/monitoring.pyz", "CONFIG_DIR": "etc", "UNIT_DIR": "units", "STATE_DIR": "state.d",
        "RECORD": "state.d/converge.json", "RUNTIME_DIR": "run", "OUTPUT": "run/out.prom",
        "FINDINGS": "state.d/findings.json", "STAMP_DIR": "stamps",
    }.items():  # fmt: skip
        monkeypatch.setattr(install, name, str(tmp_path / path))
    # That of the tests may be in a home directory.
    monkeypatch.setattr(sys, "_base_executable", "/usr/bin/python3", raising=False)
    (tmp_path / "textfiles").mkdir()
    (tmp_path / "readable").write_text("1")
    return World(tmp_path, run_module)


def test_it_installs_once(world: World) -> None:
    predicted = world.run(check=True, diff=True)
    assert predicted["changed"]
    assert {item["after_header"] for item in predicted["diff"]} == {*world.files, install.PROGRAM}
    assert world.tree() == {"textfiles"}
    done = world.run()
    assert done["changed"], done
    assert done["files"] == predicted["files"]
    assert world.calls() == [
        "daemon-reload",
        "stop kaido-ollama-metrics.service",
        "enable --quiet kaido-ollama-metrics.timer kaido-ollama-verification.timer",
        "restart kaido-ollama-metrics.timer kaido-ollama-verification.timer",
        "start kaido-ollama-metrics.service",
    ]
    assert (world.textfiles / "kaido_ollama.prom").read_text().endswith("readable 1\n")
    assert os.access(install.PROGRAM, os.X_OK)
    again = world.run()
    assert not again["changed"], again
    assert world.calls() == []


def test_the_program_does_not_depend_on_a_virtual_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/home/ops/venv/bin/python")
    world.run()
    assert (world.here / "lib/kaido-ollama/monitoring.pyz").read_bytes().startswith(b"#!/usr/bin/python3 -I\n")


@pytest.mark.parametrize("python", ["/home/ops/.pyenv/versions/3.12/bin/python3.12", "/root/python/bin/python3"])
def test_a_python_that_the_units_cannot_access_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr(sys, "_base_executable", python, raising=False)
    before = world.tree()
    result = world.run()
    assert result["failed"]
    assert result["msg"].startswith(f"ansible_python_interpreter: invalid value '{python}'; expected a Python outside")
    assert world.tree() == before


def test_a_converge_without_changes_is_recorded_and_is_no_change(world: World) -> None:
    world.run(changes={"models": 2})
    first = json.loads(world.record.read_text())
    assert first["changes"] == {"models": 2}
    assert not world.run(changes={"models": 0})["changed"]
    second = json.loads(world.record.read_text())
    assert second["changes"] == {"models": 0}
    assert second["installed"] == first["installed"]
    assert second["converged"] > first["converged"]
    world.run(changes={"models": 9}, check=True)
    assert json.loads(world.record.read_text()) == second


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_directory_that_another_account_exchanges_is_not_followed(world: World, state: str) -> None:
    """Debian gives /var/lib/prometheus, above the directory of node_exporter, to the account of Prometheus."""
    world.run()
    victim = world.here / "victim"
    victim.mkdir()
    (victim / "kaido_ollama.prom").symlink_to("/of/root")
    world.textfiles.rename(world.here / "before")
    world.textfiles.symlink_to(victim)
    os.lchown(world.textfiles, 64102, 64102)
    result = world.run(state=state)
    assert result["failed"] is (state == "present")
    if result["failed"]:
        assert result["failure"]["code"] == "textfile_taken"
        assert f"{world.textfiles} is a symbolic link" in result["msg"]
    assert [(path.name, os.readlink(path)) for path in victim.iterdir()] == [("kaido_ollama.prom", "/of/root")]


def test_the_account_can_read_what_root_installs_with_any_umask(world: World) -> None:
    before = os.umask(0o077)
    try:
        assert not world.run()["failed"]
    finally:
        os.umask(before)
    for path in (*world.files, install.PROGRAM, str(world.record)):
        for part in (Path(path), Path(path).parent):
            assert part.stat().st_mode & 0o005 >= 4 + part.is_dir(), part


@pytest.mark.parametrize("what", ["content", "mode", "program", "timer", "link", "metrics", "directory"])
def test_whatever_differs_is_corrected(world: World, what: str) -> None:
    world.run()
    path = Path(next(iter(world.files)))
    link = world.textfiles / "kaido_ollama.prom"
    if what == "content":
        path.write_text("{ }")
    elif what == "mode":
        path.chmod(0o666)
    elif what == "program":
        Path(install.PROGRAM).write_bytes(b"#!/bin/sh\n")
    elif what == "timer":
        (world.here / "state").unlink()
    elif what == "link":
        link.unlink()
        link.symlink_to("/nowhere")
    elif what == "metrics":
        (world.here / "run/out.prom").unlink()
    else:
        path.unlink()
        path.symlink_to("/dev/null")
    world.calls()
    assert world.run(check=True)["changed"]
    assert world.run()["changed"]
    assert "start kaido-ollama-metrics.service" in world.calls()
    assert not world.run()["changed"]
    assert not path.is_symlink()
    assert link.exists()


def test_a_host_that_loses_its_server_loses_the_units_of_the_verification(world: World) -> None:
    world.run()
    world.calls()
    timer = str(world.here / "units/kaido-ollama-verification.timer")
    del world.files[timer]
    assert timer in world.run(check=True)["files"]
    assert Path(timer).exists()
    result = world.run()
    assert (result["changed"], result["files"]) == (True, [timer])
    assert not Path(timer).exists()
    assert world.calls()[0] == "disable --quiet --now kaido-ollama-verification.timer"
    assert not world.run()["changed"]
    assert world.run(state="absent")["changed"]


def test_what_the_role_has_to_install_is_named_and_nothing_is_started(world: World) -> None:
    world.textfiles.rmdir()
    first = world.run(exporter_package="prometheus-node-exporter", user="no-such-user")
    assert first["missing"] == ["package", "account"]
    assert world.calls() == []
    world.textfiles.mkdir()
    second = world.run(exporter_package="prometheus-node-exporter", installed_package="prometheus-node-exporter")
    assert (second["changed"], second["missing"]) == (True, [])
    assert world.run(state="absent")["package"] == "prometheus-node-exporter"


def test_absent_removes_only_what_was_installed(world: World) -> None:
    (world.textfiles / "other.prom").write_text("")
    before = world.tree()
    assert not world.run(state="absent")["changed"]
    world.run()
    (world.here / "stamps").mkdir()
    (world.here / "stamps/stamp-kaido-ollama-verification.timer").touch()
    assert world.run(state="absent", check=True)["changed"]
    assert Path(install.PROGRAM).exists()
    assert world.run(state="absent")["changed"]
    # Directories that other things may be in stay.
    assert world.tree() - before <= {"lib", "units", "stamps"}
    assert not world.run(state="absent")["changed"]
    assert world.run(state="absent")["package"] is None


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("no directory", "textfile_directory_missing", "ollama_monitoring_textfile_directory: "),
        ("taken", "textfile_taken", "expected no such file"),
        ("unreadable", "store_unreadable", "ollama_models_dir: "),
        ("fails", "metrics_failed", "kaido-ollama-metrics.service: the last line"),
        ("file in the way", "install_failed", "etc: File exists"),
    ],
)
def test_a_host_that_cannot_be_monitored_is_one_line(
    world: World, case: str, code: str, message: str, required: bool
) -> None:
    if case == "no directory":
        world.textfiles.rmdir()
    elif case == "taken":
        (world.textfiles / "kaido_ollama.prom").write_text("mine")
    elif case == "unreadable":
        (world.here / "readable").write_text("0")
    elif case == "fails":
        (world.here / "broken").touch()
    else:
        (world.here / "etc").write_text("")
    result = world.run(required=required)
    assert result["failed"] is required
    line = result["msg"] if required else result["warnings"][0]
    assert message in line
    assert "\n" not in line
    if required:
        assert result["failure"]["code"] == code
    if case in ("no directory", "taken"):
        assert not Path(install.PROGRAM).exists()


def test_a_store_that_was_made_readable_is_read_again(world: World) -> None:
    (world.here / "readable").write_text("0")
    assert world.run()["failed"]
    assert world.run()["failed"]
    (world.here / "readable").write_text("1")
    assert not world.run()["failed"]


def test_metrics_of_a_collection_that_began_before_the_change_do_not_count(world: World) -> None:
    world.run()
    (world.here / "running").touch()
    (world.here / "readable").write_text("0")
    world.files[str(world.here / "etc/config.json")] = '{"server": false}\n'
    assert world.run()["failure"]["code"] == "store_unreadable"


def test_damage_that_the_schedule_found_is_reported(world: World) -> None:
    world.run()
    path = str(world.here / "state.d/findings.json")
    findings = Findings(path, {"sha256:0": Finding([], 1.0, "wrong")}, {"tiny:latest": ["wrong"]})
    findings.save()
    result = world.run()
    assert not result["changed"]
    assert result["damaged"] == {"tiny:latest": ["wrong"]}
    assert "tiny:latest: wrong" in result["warnings"][0]


def test_what_an_unprivileged_account_wrote_is_shown_within_bounds(world: World) -> None:
    world.run()
    models = {f"\x1b[2Jm{number}\n": ["\x07" * 400] * 12 for number in range(200)}
    Findings(str(world.here / "state.d/findings.json"), {}, models).save()
    result = world.run()
    assert len(result["damaged"]) == 100
    assert len(result["warnings"]) == 20
    assert len(json.dumps(result)) < 1_000_000
    assert all(line.isprintable() for line in [*result["damaged"], *result["warnings"]])


def test_the_module_requires_root(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert world.run()["failure"]["code"] == "root_required"
