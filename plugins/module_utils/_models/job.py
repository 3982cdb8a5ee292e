# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Background jobs of the module model: the channel to its action plugin, the files of a job, and how a job is stopped.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import signal
import time
import typing as t
import uuid

from .._core import fs
from .._core.errors import OllamaError
from .._core.owner import read_regular
from .._core.progress import RESULT_PATH_SUFFIX
from .._store.state import lock_users

_JOB_FILE = re.compile(r"j\d+\.\d+\Z")
# Seconds. A job writes its progress every second, so an older file belongs to a job that has ended.
_ENDED = 60.0
_POLL = 0.2


def new_progress_file(state_path: str) -> str:
    """Return the path of the progress file of a new job."""
    return f"{state_path[:-5]}-{uuid.uuid4()}.progress"


def remove_ended(state_path: str, seconds: float = _ENDED) -> None:
    """Remove the files of jobs that have ended.

    :param seconds: the minimum age of a file that belongs to a job that has ended.
    """
    for path in glob.glob(f"{glob.escape(state_path[:-5])}-*.progress"):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime >= seconds:
                _remove_job_file(path + RESULT_PATH_SUFFIX)
                os.unlink(path)


def _remove_job_file(path: str) -> None:
    """Remove the job file of Ansible to which a file refers, if it is one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        job_file = read_regular(path, 4096).decode().strip()
        name = os.path.basename(job_file)
        if _JOB_FILE.match(name) and json.loads(read_regular(job_file, 64 << 20))["ansible_job_id"] == name:
            os.unlink(job_file)
    with contextlib.suppress(OSError):
        os.unlink(path)


def stop(lock_paths: t.Sequence[str], *, seconds: float, kill: t.Callable[[int, int], None] = os.kill) -> list[int]:
    """Stop the runs that hold locks or wait for them, and return their process IDs.

    :param lock_paths: the paths of the locks without their suffix.
    :param seconds: the time that a run has to end.
    :param kill: sends signals; only tests set it.
    :raises OllamaError: ``job_running`` if a run does not end.
    """
    stopped: list[int] = []
    wrappers: set[int] = set()
    end = time.monotonic() + seconds
    while True:
        left = running(lock_paths)
        # A run that waited may have acquired the lock only now.
        for pid in [pid for pid in left if pid not in stopped]:
            wrappers.update(_wrappers(pid))
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGTERM)
            stopped.append(pid)
        if not left and not any(_is_wrapper(pid) for pid in wrappers):
            break
        if left and time.monotonic() >= end:
            pids = ", ".join(map(str, left))
            raise OllamaError(
                "job_running", f"processes that work on the host did not end within {seconds:g} s: {pids}"
            )
        if time.monotonic() >= end:
            break
        time.sleep(_POLL)
    return sorted(stopped)


def _wrappers(pid: int) -> list[int]:
    """Return the processes of Ansible that started a job and that write its job file at the end."""
    status = fs.readable_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    parent = int(status[1]) if len(status) > 1 and status[1].isdigit() else 0
    return [parent] if _is_wrapper(parent) else []


def _is_wrapper(pid: int) -> bool:
    return "async_wrapper.py" in fs.readable_text(f"/proc/{pid}/cmdline")


def running(lock_paths: t.Sequence[str]) -> list[int]:
    """Return the process IDs of the runs that hold locks or wait for them."""
    return sorted({pid for path in lock_paths for pid in lock_users(path)})
