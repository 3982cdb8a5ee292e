# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exception of this collection, with a message for users and a stable code for programs; and the end of modules.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import errno
import json
import os
import reprlib
import sys
import traceback
import typing as t

from . import text as text_module

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

OLDEST_PYTHON = (3, 8)
_NEWER_PYTHON = "install a newer one (EL 8: dnf install python39) and set ansible_python_interpreter to its path"
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
_ERRNO = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "filesystem_read_only",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
}


class OllamaError(Exception):
    """An error with a code and a message that contains the remedy.

    :param code: the stable name of the kind of error, for example ``digest_mismatch``; docs/failure-codes.md lists all.
    :param message: the reason, the value and the expected value. It is converted to one printable line without
        credentials, as it may contain texts of servers, registries or files.
    :param details: JSON-serializable facts for programs, in ``failure`` of the result of a module.
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
        return {"msg": self.message, "failure": dict(facts, code=self.code)}


def unsupported_python(
    state: str = "the Python of this host is too old", oldest: tuple[int, ...] = OLDEST_PYTHON
) -> OllamaError:
    """Return the error of a host whose Python cannot run modules."""
    expected = ".".join(map(str, oldest))
    return OllamaError(
        "python_unsupported", f"ansible_python_interpreter: {state}; expected {expected} or newer: {_NEWER_PYTHON}"
    )


def as_failure(exc: Exception) -> OllamaError:
    """Return an exception as an error with a code; an `OllamaError` is returned unchanged.

    Errors of the system have the codes ``disk_full``, ``filesystem_read_only``, ``permission_denied`` and ``os_error``;
    any other exception is an ``internal_error`` of this collection.
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
    """Return the file and line that raised an exception."""
    frames = traceback.extract_tb(exc.__traceback__, limit=-1)
    return f"{os.path.basename(frames[0].filename)}:{frames[0].lineno}" if frames else "an unknown line"


def _without_secrets(params: t.Mapping[str, t.Any], spec: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options of a call without the values of secret options, which ansible-core 2.22 returns."""
    return {name: MASKED if value and spec.get(name, {}).get("no_log") else value for name, value in params.items()}


# The largest integer in the JSON of other programs, and more seconds than any wait.
_LARGEST = {"int": (1 << 63) - 1, "float": 10**9}


def check_options(params: t.Mapping[str, t.Any], spec: t.Mapping[str, t.Any]) -> None:
    """Refuse values that are invalid for all options of modules.

    :raises OllamaError: ``value_invalid``.
    """
    for name, option in spec.items():
        value, kind = params.get(name), option.get("type", "str")
        expected = None
        if _has_nul(value):
            expected = "text without NUL characters"
        elif kind in _LARGEST and value is not None and not abs(value) <= _LARGEST[kind]:
            expected = f"a number of at most {_LARGEST[kind]}"
        elif kind in _LARGEST and value is not None and value < 0 and name != "seed":
            expected = "a number of 0 or more"
        if expected:
            shown = "(hidden)" if option.get("no_log") else reprlib.repr(value)
            raise OllamaError("value_invalid", f"{name}: invalid value {shown}; expected {expected}")


def _has_nul(value: t.Any) -> bool:
    if isinstance(value, t.Mapping):
        return any(_has_nul(item) for pair in value.items() for item in pair)
    return any(map(_has_nul, value)) if isinstance(value, (list, tuple)) else isinstance(value, str) and "\0" in value


def json_object(text: str, what: str) -> dict[str, t.Any]:
    """Return the object in the JSON text of an option, which may be secret.

    :raises OllamaError: ``value_invalid``.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise OllamaError("value_invalid", f"{what}: invalid value (hidden); expected the JSON text of an object")
    return value


def finish(module: AnsibleModule, run: t.Callable[[t.Mapping[str, t.Any], bool], dict[str, t.Any]]) -> t.NoReturn:
    """Run the function of a module and end the module. Only this function converts exceptions to failed results.

    Messages, warnings, results and the returned options are printable and contain no credentials. A traceback is
    returned only with a verbosity of 3 or more.

    :param run: takes the options and whether check mode is active, and returns the result.
    """
    failure: OllamaError | None = None
    extra: dict[str, t.Any] = {}
    try:
        # A Python that is only slightly too old can import this module and fail later.
        if sys.version_info[:2] < OLDEST_PYTHON:
            raise unsupported_python()
        check_options(module.params, getattr(module, "argument_spec", {}))
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
    arguments = _without_secrets(module.params, getattr(module, "argument_spec", {}))
    answer.setdefault("invocation", {"module_args": text_module.clean(arguments)})
    if failure:
        module.fail_json(**answer)
    module.exit_json(**answer)
