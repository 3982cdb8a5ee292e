# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the action plugins of this collection.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core_version
from ansible.utils.display import Display

from ..module_utils._core.errors import OllamaError, as_failure, check_options
from ..module_utils._core.interpreter import check_core, python_problem
from ..module_utils._core.options import check_input
from ..module_utils._core.text import message
from .variables import unresolved

_messages: t.Any
try:
    from ansible.module_utils._internal import _messages
except ImportError:
    # ansible-core before 2.19 prints a failure once.
    _messages = None

# With this variable of a play an unreachable host counts as failed, so that its tasks under `always` run.
UNREACHABLE_FAILS = "ollama__unreachable_fails"
# A variable of the task names the result of an earlier task that may have done the work of this one, see `earlier`.
EARLIER = "ollama__earlier_result"
# Of sudo, su and doas, and of the connection plugins that give them a password.
_BECOME = re.compile(
    r"(?:missing|incorrect|no|wrong) .{0,20}password|password is required|not in the sudoers|is not allowed to"
    r"|may not run|authentication fail|waiting for privilege escalation|must have a tty",
    re.IGNORECASE,
)
# The verbosity from which on tracebacks and sources are shown.
_VERBOSE = 3


def become_problem(text: str) -> OllamaError | None:
    """Return the failure of a user that cannot become root, if the last line of a text has the reason."""
    line = (text.strip().splitlines() or [""])[-1]
    if not _BECOME.search(line):
        return None
    return OllamaError(
        "become_failed", f"{line.rstrip('. ')}; expected a user that may become root (-K asks for the password)"
    )


def start_problem(result: t.Mapping[str, t.Any]) -> OllamaError | None:
    """Return the failure of a module that returned no result, for example because it was not started."""
    if not result.get("failed") or "failure" in result or "module_stderr" not in result:
        return None
    texts = [str(result.get(name) or "").strip() for name in ("module_stderr", "module_stdout")]
    text = next(filter(None, texts), f"exit status {result.get('rc', 'unknown')}")
    last = text.splitlines()[-1]
    return become_problem(last) or OllamaError("module_failed", f"the module returned no result: {last}")


class CollectionAction(ActionBase):
    """An action plugin that ends with one message, and whose failures have a code."""

    _supports_check_mode = True
    _checks_core = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return the result of `perform`; exceptions become failures."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            if self._checks_core:
                check_core(core_version)
            result.update(self.perform(task_vars or {}))
        except AnsibleConnectionFailure as exc:
            # As ansible-core does, without the lines of the task.
            result.update(unreachable=True, changed=False, msg=message(str(exc.message)))
            if (task_vars or {}).get(UNREACHABLE_FAILS) is True:
                result.update(failed=True, **OllamaError("host_unreachable", str(exc.message)).to_fail_json())
        except AnsibleError as exc:
            # Of the connection plugin; other errors show where they come from.
            problem = become_problem(str(exc.message))
            if not problem:
                raise
            result.update(failed=True, changed=False, **problem.to_fail_json())
        except Exception as exc:
            result.update(failed=True, changed=False, **as_failure(exc).to_fail_json())
        self._print_once(result)
        return result

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work of the task and return its result; raises OllamaError."""
        raise NotImplementedError

    def module(
        self,
        name: str | None,
        arguments: dict[str, t.Any] | None,
        task_vars: dict[str, t.Any],
        *,
        wrap_async: t.Any = False,
    ) -> dict[str, t.Any]:
        """Run a module on the host.

        :raises OllamaError: ``python_unsupported``, ``become_failed`` and ``module_failed`` if the module did not run.
        """
        done: dict[str, t.Any] = self._execute_module(name, arguments, task_vars=task_vars, wrap_async=wrap_async)
        problem = python_problem(done) or start_problem(done)
        if problem:
            raise problem
        return done

    def module_of_task(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module of the task as ansible-core does without an action plugin."""
        wrap_async = bool(self._task.async_val and not self._connection.has_native_async)
        done = self.module(None, None, task_vars, wrap_async=wrap_async)
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return done

    def earlier(self, key: str, task_vars: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """Return the result that an earlier task has under `key`, None if this task has to call its module."""
        result = task_vars.get(str(task_vars.get(EARLIER))) or {}
        return dict(result[key]) if result.get(key) else None

    def options(self, spec: dict[str, t.Any], **conditions: t.Any) -> dict[str, t.Any]:
        """Return the options of the task; raises ``value_invalid``.

        :param conditions: the other arguments of `validate_argument_spec`.
        """
        check_input(spec, self._task.args)
        try:
            options: dict[str, t.Any] = self.validate_argument_spec(argument_spec=spec, **conditions)[1]
        except AnsibleActionFail as exc:
            raise OllamaError("value_invalid", str(exc.message)) from None
        check_options(options, spec)
        return options

    def value(self, name: str, raw: t.Any) -> t.Any:
        """Return the value of a variable; raises ``value_invalid`` if its template cannot be resolved."""
        try:
            return self._templar.template(raw)
        except AnsibleError as exc:
            raise OllamaError("value_invalid", unresolved(name, exc)) from None

    def _print_once(self, result: dict[str, t.Any]) -> None:
        """Leave only the code in what ansible-core prints before a failed result.

        From 2.19 on it prints the message and the lines of the task, once for all hosts, and then for each host the
        result with the same message.
        """
        code = (result.get("failure") or {}).get("code") if result.get("failed") else None
        if not code or not _messages or Display().verbosity >= _VERBOSE:
            return
        # These types are internal to ansible-core: with others a failure is printed twice, and is still one.
        with contextlib.suppress(AttributeError, TypeError):
            result["exception"] = _messages.ErrorSummary(event=_messages.Event(msg=str(code)))
            # The lines of the task; this process has a copy of it.
            t.cast(t.Any, self._task)._ds = None
