# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker Engine that answers this user. Standard library only: it may run before anything was installed.

`Probe.take()` gathers the state, `decide()` derives the next step from it, `ensure()` runs that step and checks
the state again.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import http.client
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import CACHE, PROJECT, LabError, say

SOCKET = "/var/run/docker.sock"
STATE = CACHE / "engine.json"
JOINED = "KAIDO_LAB_JOINED"
# Debian keeps daemons where a normal user's PATH does not look.
SEARCH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
# What a re-run under sudo keeps. The rest of the environment may hold secrets, and command lines are world-readable.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "NO_COLOR", "VIRTUAL_ENV", "TMPDIR")
KEPT_PREFIXES = ("LANG", "LC_", "PYTHON", "ANSIBLE_", "MOLECULE_", "KAIDO_", "LAB_")

Step = Literal["install", "service", "daemon", "join"]


@dataclass(frozen=True)
class Probe:
    """What can be seen without changing anything."""

    engine: Literal["answers", "denied", "silent"]
    docker_host: str = ""  # a DOCKER_HOST that names something other than the local socket
    root: bool = False
    sudo: bool = False
    installed: bool = False
    apt: bool = False
    systemd: bool = False
    joined: bool = False  # this process is already the re-run with the socket's group

    @classmethod
    def take(cls) -> Probe:
        wanted = os.environ.get("DOCKER_HOST", "")
        path = wanted.removeprefix("unix://") if wanted.startswith("unix://") else SOCKET
        return cls(
            engine=ask(path),
            docker_host="" if path == SOCKET and wanted in ("", f"unix://{SOCKET}") else wanted,
            root=os.geteuid() == 0,
            sudo=can_sudo(),
            installed=shutil.which("dockerd", path=SEARCH) is not None,
            apt=shutil.which("apt-get", path=SEARCH) is not None,
            systemd=Path("/run/systemd/system").is_dir(),
            joined=JOINED in os.environ,
        )


def decide(seen: Probe) -> list[Step]:
    """The steps that get an engine to answer; empty when one does. LabError: the one thing that the user must do."""
    if seen.docker_host and not seen.docker_host.startswith("unix://"):
        raise LabError(
            f"DOCKER_HOST is {seen.docker_host!r}, but the lab mounts local directories and reaches containers by "
            "address, so it needs the engine of this machine: unset DOCKER_HOST"
        )
    if seen.engine == "answers":
        return []
    if seen.docker_host:
        raise LabError(f"no Docker Engine answers at DOCKER_HOST {seen.docker_host!r}: start it, or unset DOCKER_HOST")
    if seen.engine == "denied":
        if seen.sudo and not seen.joined:
            return ["join"]
        raise LabError(
            "a Docker Engine runs, but this user may not use it: as root, `usermod -aG docker USER`, then log in again"
        )
    if not (seen.root or seen.sudo):
        what = "start it" if seen.installed else "install and start it"
        raise LabError(f"no Docker Engine answers, and {what} takes root: run this as root or with sudo at hand")
    steps: list[Step] = []
    if not seen.installed:
        if not seen.apt:
            raise LabError("no Docker Engine answers, and there is no apt-get to install one: install Docker Engine")
        steps.append("install")
    steps.append("service" if seen.systemd else "daemon")
    return steps


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Two labs that start at once install, start and build what they share once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure() -> None:
    """Return when an engine answers this process; that may take installing, starting, or a re-run with its group."""
    for step in decide(Probe.take()):
        if step == "install":
            apt_install(["docker.io", "iptables"], "no Docker Engine is installed")
        elif step == "service":
            say("engine: starting the service docker (systemctl enable --now docker)")
            run_as_root(["systemctl", "enable", "--quiet", "--now", "docker"])
            wait()
        elif step == "daemon":
            start_daemon()
        elif step == "join":
            join()
    if decide(Probe.take()) == ["join"]:
        join()


def ask(path: str) -> Literal["answers", "denied", "silent"]:
    """One /_ping over the socket."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(path)
        connection.request("GET", "/_ping")
        return "answers" if connection.getresponse().status == 200 else "silent"
    except PermissionError:
        return "denied"
    except (OSError, http.client.HTTPException):
        return "silent"
    finally:
        connection.close()


def can_sudo() -> bool:
    """Without a password, or with someone there to type it."""
    if os.geteuid() == 0 or shutil.which("sudo") is None:
        return False
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return True
    return sys.stdin.isatty()


def as_root(command: Sequence[str]) -> list[str]:
    return [*command] if os.geteuid() == 0 else ["sudo", *command]


def run_as_root(command: Sequence[str], capture: bool = False) -> str:
    done = subprocess.run(as_root(command), check=False, stdout=subprocess.PIPE if capture else None, text=True)
    if done.returncode:
        raise LabError(f"`{' '.join(command)}` failed with exit status {done.returncode}: see its output above")
    return done.stdout or ""


def apt_install(packages: Sequence[str], why: str) -> None:
    """Say it, then do it. What was added is remembered, so that `clean` can name it."""
    wanted = " ".join(packages)
    if not (os.geteuid() == 0 or can_sudo()):
        raise LabError(f"{why}, and installing takes root: run `apt-get install {wanted}` as root")
    say(f"engine: {why}; installing from this machine's apt sources: {wanted}")
    run_as_root(["apt-get", "-qq", "update"])
    install = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends", *packages]
    run_as_root(["env", "DEBIAN_FRONTEND=noninteractive", *install])
    state = read_state()
    remember({**state, "installed": sorted({*state.get("installed", []), *packages})})


def ensure_tools(tools: dict[str, str]) -> None:
    """Programs that the lab calls here: name of the program -> Debian package."""
    missing = sorted(package for tool, package in tools.items() if not shutil.which(tool, path=SEARCH))
    if not missing:
        return
    if not shutil.which("apt-get", path=SEARCH):
        raise LabError(f"the lab needs {', '.join(missing)}, and there is no apt-get to install them: install them")
    apt_install(missing, f"missing here: {', '.join(missing)}")


def start_daemon() -> None:
    """Start dockerd in a session of its own, and remember which process it is: `clean` ends that one only."""
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / "dockerd.log"
    dockerd = shutil.which("dockerd", path=SEARCH) or "dockerd"
    say(f"engine: no systemd here, so starting dockerd itself; its log: {log.relative_to(PROJECT)}")
    # Neither nohup nor setsid forks here, so the shell knows dockerd's pid. A pid file of its own: that of a dockerd
    # which was killed stays, and keeps another from starting as soon as any process has its number.
    script = 'rm -f "$2"; nohup setsid "$0" --pidfile "$2" >>"$1" 2>&1 </dev/null & echo $!'
    arguments = [dockerd, str(log), str(CACHE / "dockerd.pid")]
    pid = int(run_as_root(["env", f"PATH={SEARCH}", "sh", "-c", script, *arguments], capture=True))
    remember({**read_state(), "pid": pid, "start": start_time(pid)})
    try:
        wait(alive=lambda: our_daemon() == pid)
    except LabError as error:
        tail = log.read_text(errors="replace").splitlines()[-3:]
        raise LabError("\n".join([f"{error}; its last lines:", *tail])) from error


def wait(alive: Callable[[], bool] = lambda: True, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while ask(SOCKET) == "silent":
        if not alive():
            raise LabError("dockerd ended at once")
        if time.monotonic() > deadline:
            raise LabError(f"the Docker Engine did not answer within {seconds:.0f} s")
        time.sleep(0.2)


def join() -> None:
    """Re-run this command as the same user with the socket's group added: neither the user nor the socket changes."""
    group = grp.getgrgid(os.stat(SOCKET).st_gid)
    user = pwd.getpwuid(os.getuid())
    say(f"engine: {user.pw_name} is not in group {group.gr_name}; using sudo to add it for this command only")
    groups = {*os.getgroups(), user.pw_gid, group.gr_gid}
    os.execvp("sudo", join_command(user.pw_uid, user.pw_gid, groups, os.environ, sys.argv[1:]))


def join_command(uid: int, gid: int, groups: set[int], environ: Mapping[str, str], args: Sequence[str]) -> list[str]:
    listed = ",".join(str(group) for group in sorted(groups))
    kept = [f"{k}={v}" for k, v in environ.items() if k in KEPT or k.startswith(KEPT_PREFIXES)]
    command = ["sudo", "setpriv", f"--reuid={uid}", f"--regid={gid}", f"--groups={listed}", "env", *kept, f"{JOINED}=1"]
    return [*command, sys.executable, "-m", "tests.lab", *args]


def start_time(pid: int) -> int:
    """When a process began (field 22 of /proc/PID/stat): a later process with the same ID has another. 0: it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    # Z: ended, but PID 1 of some containers never collects it.
    return 0 if fields[0] == "Z" else int(fields[19])


def our_daemon() -> int:
    """The pid of the dockerd that the lab started, while it is alive; else 0."""
    state = read_state()
    pid = state.get("pid", 0)
    return pid if pid and start_time(pid) == state["start"] else 0


def stop_daemon() -> None:
    pid = our_daemon()
    if not pid:
        return
    say(f"engine: ending the dockerd that the lab started (pid {pid})")
    run_as_root(["kill", str(pid)])
    deadline = time.monotonic() + 30
    while our_daemon():
        if time.monotonic() > deadline:
            raise LabError(f"dockerd (pid {pid}) did not end within 30 s: see .cache/lab/dockerd.log")
        time.sleep(0.2)


def read_state() -> dict[str, Any]:
    try:
        return dict(json.loads(STATE.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def remember(state: dict[str, Any]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    STATE.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
