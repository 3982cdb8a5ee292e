# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module whose work can take hours, and show its progress.

If no work takes long, the module is called once. Otherwise, the work runs as an asynchronous job on the host, which a
lost connection or Ctrl-C does not end, and its progress is read from a small file on the host.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import shlex
import threading
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.progress import DETACH, PROGRESS_FILE, RESULT_PATH_SUFFIX, human
from ..module_utils._core.text import message
from . import output
from .action import CollectionAction

# A variable of the task lists the codes of failures that a later task handles: they do not end the play.
HANDLED = "ollama__handled_failures"
# Seconds. A pull of hundreds of GB over a slow connection takes days; the deadline of the module is the limit of users.
_JOB_LIMIT = 7 * 24 * 3600
_FIRST_READ, _EVERY = 0.5, 2.0
# The seconds between lines. The interval grows, so that a pull of several days does not print thousands of lines.
_LINE_EVERY, _LINE_EVERY_MAX, _LINE_GROWTH = 4.0, 30.0, 1.05
# Seconds after which a line is printed again without a change.
_REPEAT = 30.0
# Seconds. The module writes its file every second, so a file that does not change for this time has no writer.
_STILL = 20.0
# Seconds until a host that does not reply is reported, and until it counts as unreachable.
_SILENCE, _UNREACHABLE = 15.0, 600.0
_RECONNECT = 5.0
# Seconds that printing a line may take, as blocked output must not stop the run.
_PRINT = 5.0
_JOB_KEYS = (
    "started",
    "finished",
    "ansible_job_id",
    "results_file",
    "stdout",
    "stderr",
    "stdout_lines",
    "stderr_lines",
)

CONTINUES = (
    "the work runs as a job on the host and continues after Ctrl-C; the next run waits for it, and the playbook "
    "kaido.ollama.stop ends it"
)


def progress_line(state: t.Mapping[str, t.Any], speed: float) -> str:
    """Return one human-readable line: models, percentage, bytes, speed and remaining time.

    :param state: the content of the progress file.
    :param speed: bytes per second; 0 if it is not known yet.
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


def _is_size(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_state(state: t.Mapping[str, t.Any]) -> bool:
    """Return whether data has the form of a progress file."""
    models = state.get("models")
    return (
        isinstance(models, dict)
        and isinstance(state.get("note"), str)
        and isinstance(state.get("finished"), bool)
        and isinstance(state.get("time"), float)
        and all(
            isinstance(row, dict)
            and isinstance(row.get("status"), str)
            and all(_is_size(row.get(key)) for key in ("total", "completed"))
            for row in models.values()
        )
    )


class JobAction(CollectionAction):
    """The action of a module with live progress.

    :cvar name: the module. If the variable `DETACH` is in its environment, it returns ``pending`` and ``progress_file``
        instead of work that takes long.
    :cvar returns: the name of a value in the final result of the module.
    """

    _supports_async = True
    name = ""
    returns = ""
    _host = ""
    _muted = False
    _last_line = ""
    _last_time = -_REPEAT

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module, and follow it if the work takes long."""
        self._host = str(task_vars.get("inventory_hostname", ""))
        earlier = self.earlier(self.returns, task_vars)
        if earlier:
            final = earlier
        elif self._task.check_mode or self._task.async_val:
            final = self._call({}, task_vars, wrap_async=self._task.async_val)
        else:
            final = self._call({DETACH: "1"}, task_vars)
            if final.get("pending") and not final.get("failed"):
                final = self._work(final, task_vars)
        for text in final.get("messages") or []:
            self._print(str(text))
        handled = self.value(HANDLED, task_vars.get(HANDLED)) or []
        if (final.get("failure") or {}).get("code") in handled:
            final["failed"] = False
        return final

    def _call(
        self, environment: dict[str, str], task_vars: dict[str, t.Any], *, wrap_async: t.Any = False
    ) -> dict[str, t.Any]:
        """Call the module with additional environment variables, which are not part of its options."""
        given = self._task.environment
        self._task.environment = [*(given if isinstance(given, list) else [given] if given else []), environment]
        try:
            return self.module(self.name, dict(self._task.args), task_vars, wrap_async=wrap_async)
        finally:
            self._task.environment = given

    def _work(self, first: t.Mapping[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the pending work as a job, and return its result."""
        for warning in first.get("warnings", []):
            # Warnings are printed now, not after all pulls. Since ansible-core 2.19, they are objects with a text.
            Display().warning(message(str(getattr(getattr(warning, "event", None), "msg", warning))))
        for name in first.get("removals", []):
            self._print(f"{name}: will be removed, as it is not declared")
        if first.get("waiting"):
            self._last_line, self._last_time = str(first["waiting"]), time.monotonic()
            self._print(self._last_line)
        path = str(first["progress_file"])
        try:
            return self._follow(path, task_vars)
        finally:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._shell(f"rm -f {shlex.quote(path)} {shlex.quote(path + RESULT_PATH_SUFFIX)}")

    def _follow(self, path: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Start the job, show its progress and return its result."""
        # Ctrl-C ends this process without further output.
        self._print(CONTINUES)
        self._task.async_val = _JOB_LIMIT
        try:
            job = self._call({PROGRESS_FILE: path}, task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0
        if "ansible_job_id" not in job:
            return job
        # A later run removes the files of a job that is no longer followed.
        self._shell(
            f"printf %s {shlex.quote(str(job.get('results_file', '')))} > {shlex.quote(path + RESULT_PATH_SUFFIX)}"
        )
        self._show(path)
        while True:
            status = self._job(job["ansible_job_id"], "status", task_vars)
            if status.get("finished"):
                break
            if status.get("failed") or self._is_still(path):
                raise OllamaError("job_ended", f"the process on {self._host} has ended; run again to resume it")
            self._show(path)
        self._job(job["ansible_job_id"], "cleanup", task_vars)
        if self.returns not in status and "failure" not in status:
            why = f"the process on {self._host} was stopped or has crashed; run again to resume it"
            raise OllamaError("job_ended", why)
        return {key: value for key, value in status.items() if key not in _JOB_KEYS}

    def _show(self, path: str) -> None:
        """Print lines until the job reports its end or stops writing its progress."""
        samples: list[tuple[float, int]] = []
        every = _LINE_EVERY
        still_since = time.monotonic()
        seen: dict[str, t.Any] = {}
        time.sleep(pause := _FIRST_READ)
        while not seen.get("finished") and time.monotonic() - still_since < _STILL:
            state = self._read(path)
            now = time.monotonic()
            if state.get("time") != seen.get("time"):
                still_since = now
            seen = state or seen
            if (state.get("models") or state.get("note")) and not state["finished"]:
                samples = [*samples[-8:], (now, sum(row["completed"] for row in state["models"].values()))]
                (then, before), (_now, done) = samples[0], samples[-1]
                line = progress_line(state, (done - before) / (now - then) if now > then else 0)
                if now - self._last_time >= (every if line != self._last_line else _REPEAT):
                    self._print(line)
                    self._last_line, self._last_time = line, now
                    every = min(every * _LINE_GROWTH, _LINE_EVERY_MAX)
            if not seen.get("finished"):
                time.sleep(pause := min(1.5 * pause, _EVERY))

    def _print(self, line: str) -> None:
        """Print a line about the host. After blocked output, nothing more is printed."""
        if self._muted:
            return
        text = message(f"{self._host}: {line}")
        thread = threading.Thread(target=output.show, args=(text,), daemon=True)
        thread.start()
        thread.join(_PRINT)
        self._muted = thread.is_alive()

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

    def _job(self, jid: str, mode: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
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
        return self._patiently(lambda: dict(action.run(task_vars=task_vars)))

    def _shell(self, command: str) -> str:
        return str(self._patiently(lambda: dict(self._low_level_execute_command(command)))["stdout"])

    def _patiently(self, call: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
        """Retry after a lost connection, as the job continues without it, and report a host that does not reply."""
        end = time.monotonic() + _UNREACHABLE
        named = False
        while True:
            attempt = _Attempt(call)
            while not attempt.wait(_SILENCE):
                self._print(f"no reply for {attempt.seconds:.0f} s; the job continues if the host runs")
                if time.monotonic() >= end:
                    raise AnsibleConnectionFailure(f"{self._host} does not reply; the next run waits for the job")
            if not isinstance(attempt.error, AnsibleConnectionFailure):
                return attempt.result()
            if time.monotonic() >= end:
                raise attempt.error
            if not named:
                self._print(f"the connection was lost; retrying: {attempt.error}")
            named = True
            time.sleep(_RECONNECT)


class _Attempt:
    """A call in a separate thread, as a connection to an unresponsive host may block for many minutes."""

    def __init__(self, call: t.Callable[[], dict[str, t.Any]]) -> None:
        self.error: BaseException | None = None
        self._answer: dict[str, t.Any] = {}
        self._started = time.monotonic()
        # ansible-core keeps the current task in context variables.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._run, call), daemon=True)
        self._thread.start()

    def _run(self, call: t.Callable[[], dict[str, t.Any]]) -> None:
        try:
            self._answer = call()
        except BaseException as exc:
            self.error = exc

    @property
    def seconds(self) -> float:
        """The seconds since the start of the call."""
        return time.monotonic() - self._started

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the call, and return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> dict[str, t.Any]:
        """Return the result of the call, or raise its exception."""
        if self.error:
            raise self.error
        return self._answer
