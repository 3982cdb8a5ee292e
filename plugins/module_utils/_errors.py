# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of this collection: a sentence for people, a stable code for programs; and where it ends.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class OllamaError(Exception):
    """A failure that the user can act on.

    :param code: stable, documented name of the kind of failure, for example ``digest_mismatch``.
    :param message: one line: what is wrong, with which value, and what would be right.
    :param details: JSON-serialisable facts for programs, kept under ``failure`` in a module's result.
    """

    def __init__(self, code: str, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_fail_json(self) -> dict[str, t.Any]:
        """Return the arguments for ``AnsibleModule.fail_json``."""
        return {"msg": self.message, "failure": dict(self.details, code=self.code, message=self.message)}


def finish(module: AnsibleModule, run: t.Callable[[t.Mapping[str, t.Any], bool], dict[str, t.Any]]) -> t.NoReturn:
    """Run a module's function and end the module: the one place where errors become failures.

    :param run: takes the parameters and the check mode; returns the result.
    """
    try:
        result = run(module.params, module.check_mode)
    except OllamaError as exc:
        failure = exc.to_fail_json()
        result = failure["failure"].pop("result", {})
        for warning in result.pop("warnings", []):
            module.warn(warning)
        module.fail_json(**dict(result, **failure))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)
