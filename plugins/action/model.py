# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module model, and while it pulls, say every few seconds how far it is.

A call that has nothing to pull is one call of the module. Otherwise the pull runs as an asynchronous job on the host,
which a broken SSH connection does not end, and its progress is read from a small file there.
"""

from __future__ import annotations

import json
import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._core.progress import human
from ..module_utils._core.text import message

MODULE = "kaido.ollama.model"
# Seconds. A pull of hundreds of GB over a slow line takes days; the module's own deadline is the user's limit.
_JOB_LIMIT = 7 * 24 * 3600
_FIRST_LOOK, _EVERY, _LINE_EVERY = 0.5, 2.0, 4.0
# The module's file is written every second: one that has been still for so long has no writer.
_STILL = 60.0
_CONNECTION_TRIES = 60


def progress_line(state: t.Mapping[str, t.Any], speed: float) -> str:
    """Return one line for people: models, percent, bytes of bytes, speed, time left.

    :param state: what the module keeps in its progress file.
    :param speed: bytes a second; 0 where that is not known yet.
    """
    if state.get("note"):
        return str(state["note"])
    models: t.Mapping[str, t.Mapping[str, t.Any]] = state["models"]
    running = {name: row for name, row in models.items() if row["status"] not in ("waiting", "success")}
    total = sum(row["total"] for row in models.values())
    done = sum(row["completed"] for row in models.values())
    parts = [
        ", ".join(running) or "preparing",
        f"{100 * done // total if total else 0} %",
        f"{human(done)} of {human(total)}",
    ]
    if total and done >= total:
        parts.append(next(iter(running.values()))["status"] if running else "checking")
    elif speed > 0:
        seconds = round((total - done) / speed)
        hours, rest = divmod(seconds, 3600)
        left = f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
        parts += [f"{human(speed)}/s", f"{left} left"]
    return "  ".join(parts)


def is_state(state: t.Mapping[str, t.Any]) -> bool:
    """Return whether a file holds what the module keeps in its progress file."""
    models = state.get("models")
    return (
        isinstance(models, dict)
        and isinstance(state.get("note"), str)
        and isinstance(state.get("finished"), bool)
        and isinstance(state.get("time"), float)
        and all(
            isinstance(row, dict)
            and isinstance(row.get("status"), str)
            and all(type(row.get(key)) is int and row[key] >= 0 for key in ("total", "completed"))
            for row in models.values()
        )
    )


class ActionModule(ActionBase):
    """The module of the same name, with live progress."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module; follow it if it has to pull."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._task.check_mode or self._task.async_val or "detach" in arguments:
            limit = self._task.async_val
            return {**result, **self._execute_module(MODULE, arguments, task_vars=task_vars, wrap_async=limit)}
        first: dict[str, t.Any] = self._execute_module(MODULE, {**arguments, "detach": True}, task_vars=task_vars)
        if first.get("failed") or not first.get("pending"):
            return {**result, **first}
        for warning in first.get("warnings", []):
            # Now, not when all is pulled. From ansible-core 2.19 on a warning is no text but has one.
            Display().warning(message(str(getattr(getattr(warning, "event", None), "msg", warning))))
        host = (task_vars or {}).get("inventory_hostname", "")
        progress_file = str(first["progress_file"])
        final = self._follow(host, {**arguments, "progress_file": progress_file}, task_vars)
        self._shell(f"rm -f {shlex.quote(progress_file)}")
        return {**result, **final}

    def _follow(self, host: str, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """Start the job, show its progress, and return its result."""
        self._task.async_val = _JOB_LIMIT
        try:
            job: dict[str, t.Any] = self._execute_module(MODULE, arguments, task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0
        if "ansible_job_id" not in job:
            return job
        self._show(host, arguments["progress_file"])
        while True:
            status = self._job(job["ansible_job_id"], "status", task_vars)
            if status.get("finished"):
                break
            if status.get("failed") or self._is_still(arguments["progress_file"]):
                return {
                    **status,
                    "failed": True,
                    "msg": f"the pull's process on {host} is gone; run again to resume it",
                }
            self._show(host, arguments["progress_file"])
        self._job(job["ansible_job_id"], "cleanup", task_vars)
        for key in (
            "started",
            "finished",
            "ansible_job_id",
            "results_file",
            "stdout",
            "stderr",
            "stdout_lines",
            "stderr_lines",
        ):
            status.pop(key, None)
        return status

    def _show(self, host: str, path: str) -> None:
        """Print lines until the job says that it is finished, or nothing new can be read."""
        samples: list[tuple[float, int]] = []
        last_line, last_time, still_since = "", -_LINE_EVERY, time.monotonic()
        seen: dict[str, t.Any] = {}
        time.sleep(pause := _FIRST_LOOK)
        while not seen.get("finished") and time.monotonic() - still_since < _STILL:
            state = self._read(path)
            now = time.monotonic()
            if state.get("time") != seen.get("time"):
                still_since = now
            seen = state or seen
            if state.get("models") or state.get("note"):
                samples = [*samples[-8:], (now, sum(row["completed"] for row in state["models"].values()))]
                (then, before), (_now, done) = samples[0], samples[-1]
                line = progress_line(state, (done - before) / (now - then) if now > then else 0)
                if line != last_line and now - last_time >= _LINE_EVERY and not state["finished"]:
                    Display().display(message(f"{host}: {line}"))
                    last_line, last_time = line, now
            if not seen.get("finished"):
                time.sleep(pause := min(1.5 * pause, _EVERY))

    def _is_still(self, path: str) -> bool:
        before = self._read(path).get("time")
        time.sleep(_EVERY)
        return bool(self._read(path).get("time") == before)

    def _read(self, path: str) -> dict[str, t.Any]:
        try:
            state = json.loads(self._shell(f"cat {shlex.quote(path)}"))
        except (ValueError, RecursionError):
            return {}
        return state if isinstance(state, dict) and is_state(state) else {}

    def _job(self, jid: str, mode: str, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        action = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.async_status",
            task=self._task.copy(),
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        action._task.args = {"jid": jid, "mode": mode}
        return dict(self._patiently(lambda: action.run(task_vars=task_vars)))

    def _shell(self, command: str) -> str:
        return str(self._patiently(lambda: self._low_level_execute_command(command))["stdout"])

    def _patiently(self, call: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
        """Outlast a connection that breaks: the job goes on without it."""
        for attempt in range(1, _CONNECTION_TRIES + 1):
            try:
                return call()
            except AnsibleConnectionFailure:
                if attempt == _CONNECTION_TRIES:
                    raise
            time.sleep(5)
        raise AssertionError("unreachable")
