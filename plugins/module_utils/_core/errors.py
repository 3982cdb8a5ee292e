# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of this collection: a sentence for users, a stable code for programs; and where it ends.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import errno
import os
import traceback
import typing as t

from . import text as text_module

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

_ERRNO = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
}


class OllamaError(Exception):
    """A failure that the user can act on.

    :param code: stable, documented name of the kind of failure, for example ``digest_mismatch``.
    :param message: what is wrong, with which value, and what would be right; kept as one printable line without
        credentials, whatever texts of servers, registries or files are in it.
    :param details: JSON-serialisable facts for programs, kept under ``failure`` in a module's result.
    """

    def __init__(self, code: str, message: str, **details: t.Any) -> None:
        message = text_module.message(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_fail_json(self) -> dict[str, t.Any]:
        """Return the arguments for ``AnsibleModule.fail_json``, without credentials and control characters."""
        facts = text_module.clean(self.details)
        return {"msg": self.message, "failure": dict(facts, code=self.code, message=self.message)}


def as_failure(exc: Exception) -> OllamaError:
    """Return the coded failure that any exception stands for; `OllamaError` itself stays as it is.

    Codes of the others: ``disk_full``, ``read_only``, ``permission_denied``, ``os_error`` for what the system refused,
    and ``internal_error`` for an error of this collection.
    """
    if isinstance(exc, OllamaError):
        return exc
    if isinstance(exc, OSError) and exc.errno:
        where = os.fsdecode(exc.filename) if isinstance(exc.filename, (str, bytes)) else _place(exc)
        return OllamaError(_ERRNO.get(exc.errno, "os_error"), f"{where}: {os.strerror(exc.errno)}", errno=exc.errno)
    text = str(exc)[:200]
    return OllamaError(
        "internal_error",
        f"{type(exc).__name__} in {_place(exc)}{': ' if text else ''}{text}; this is an error in kaido.ollama, please"
        " report it with the output of -vvv",
        exception=type(exc).__name__,
    )


def _place(exc: BaseException) -> str:
    """Return the file and line that an exception comes from."""
    frames = traceback.extract_tb(exc.__traceback__, limit=-1)
    return f"{os.path.basename(frames[0].filename)}:{frames[0].lineno}" if frames else "an unknown place"


def finish(module: AnsibleModule, run: t.Callable[[t.Mapping[str, t.Any], bool], dict[str, t.Any]]) -> t.NoReturn:
    """Run a module's function and end the module: the one place where errors become failures.

    Whatever is shown (messages, warnings, results, the options of the call) is printable and without credentials. A
    traceback is only kept where it is shown at a verbosity of 3 or more.

    :param run: takes the parameters and the check mode; returns the result.
    """
    failure: OllamaError | None = None
    extra: dict[str, t.Any] = {}
    try:
        result = run(module.params, module.check_mode)
    except OllamaError as exc:
        failure = exc
    except Exception as exc:
        failure = as_failure(exc)
        if failure.code == "internal_error" and getattr(module, "_verbosity", 0) >= 3:
            extra["exception"] = text_module.redact(text_module.printable(traceback.format_exc(limit=-50), keep="\n"))
    if failure:
        answer = failure.to_fail_json()
        result = answer["failure"].pop("result", {})
        answer = dict(result, **answer, **extra)
    else:
        answer = text_module.clean(result)
    for warning in answer.pop("warnings", []):
        module.warn(text_module.message(str(warning)))
    # Ansible masks a secret option only if its value is unchanged.
    spec = getattr(module, "argument_spec", {})
    answer.setdefault(
        "invocation",
        {
            "module_args": {
                name: value if spec.get(name, {}).get("no_log") else text_module.clean(value)
                for name, value in module.params.items()
            }
        },
    )
    if failure:
        module.fail_json(**answer)
    module.exit_json(**answer)
