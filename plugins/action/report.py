# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what was observed on each host of the play as a table, and write it as a page and as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import typing as t

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ..module_utils._benchmark.history import for_report
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.text import message
from ..plugin_utils.action import CollectionAction
from ..plugin_utils.files import write_atomically
from ..plugin_utils.output import show
from ..plugin_utils.report import build
from ..plugin_utils.report_page import page
from ..plugin_utils.report_table import table
from ..plugin_utils.variables import PREFIXES

SPEC: dict[str, t.Any] = {
    "file": {"type": "path"},
    "benchmarks": {"type": "path"},
    "predicted": {"type": "bool"},
}
_FACTS = ("ollama_report", "ollama_host_info", "ollama__preflight", "ollama_report_failure")
# Of ansible-core, before the message of ssh or of a module.
_INTRODUCTION = re.compile(
    r"^(?:(?:Task|Module) failed: )*(?:Failed to connect to the host via ssh: |"
    r'Data could not be sent to remote host "[^"]*"\. Make sure this host can be reached over ssh: )?'
)
# Of a task whose result is secret.
_NO_REASON = "a task failed, as shown above"
# The only role with another prefix.
_PREFIXES = (*PREFIXES, "packages__")


def host_facts(variables: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Return by host of the play what the roles and modules have left; a host without an answer has its reason."""
    found = {}
    alive = set(variables.get("ansible_play_hosts") or [])
    batch = set(variables.get("ansible_play_batch") or alive)
    for host in variables["ansible_play_hosts_all"]:
        known = variables["hostvars"][host]
        of_modules = known.get("ansible_facts")
        of_modules = of_modules if isinstance(of_modules, t.Mapping) else {}
        facts = {name: known[name] if name in known else of_modules.get(name) for name in _FACTS}
        facts = {name: value for name, value in facts.items() if value is not None}
        # The release that a rollback has left.
        back = known.get("ollama__rolled_back")
        left = facts.get("ollama_report")
        if isinstance(back, t.Mapping) and back.get("server_version") and isinstance(left, t.Mapping):
            facts["ollama_report"] = {**left, "version": back["server_version"]}
        facts["ansible_facts"] = {"ollama_listening": of_modules.get("ollama_listening")}
        facts["is_server"] = "ollama_servers" in (known.get("group_names") or [])
        seen = facts.get("ollama_host_info")
        observed: t.Mapping[str, t.Any] = seen if isinstance(seen, t.Mapping) else {}
        if observed.get("unreachable"):
            facts["ollama_report_unreachable"] = message(
                _INTRODUCTION.sub("", str(observed.get("msg") or "no connection"))
            )
        elif host not in alive and "ollama_report_failure" not in facts:
            failed = last_failure(known)
            kind = "ollama_report_unreachable" if failed.get("unreachable") else "ollama_report_failure"
            facts[kind] = reason(failed)
        elif host not in batch and not is_observed(known):
            facts["ollama_report_waits"] = True
        found[host] = facts
    return found


def last_failure(known: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    """Return the last failed result among the registered variables of a host that has failed, or {}.

    Each task of the roles registers its result. A variable that ends in ``__failed`` has the final failure of a rescue.
    """
    failed: t.Mapping[str, t.Any] = {}
    for name in known:
        if name.startswith(_PREFIXES) and "__" in name:
            # Variables of roles can be templates that do not resolve here.
            with contextlib.suppress(AnsibleError):
                value = known[name]
                if _is_failed(value) and value.get("msg"):
                    failed = value
                    if name.endswith("__failed"):
                        break
    return failed


def _is_failed(value: t.Any) -> bool:
    return isinstance(value, dict) and bool(value.get("failed") or value.get("unreachable"))


def reason(failed: t.Mapping[str, t.Any]) -> str:
    """Return why a task failed, as one line: of a loop the first failure, of a command its last line."""
    items = failed.get("results")
    failed = next((item for item in items if _is_failed(item)), failed) if isinstance(items, list) else failed
    text = _INTRODUCTION.sub("", str(failed.get("msg") or _NO_REASON))
    errors = failed.get("stderr_lines")
    last = str(errors[-1]) if isinstance(errors, list) and errors and "rc" in failed else ""
    return message(text if not last or last in text else f"{text}: {last}")


def is_observed(known: t.Mapping[str, t.Any]) -> bool:
    """Return whether a run has tried to contact a host."""
    names = (*_FACTS, "ollama_gateway__service_info", "ollama_client__service_info")
    return any(name in known for name in names) or bool(last_failure(known))


def json_path(path: str) -> str:
    """Return the path of the JSON beside a page."""
    return os.path.splitext(path)[0] + ".json"


def urgent(report: t.Mapping[str, t.Any]) -> list[str]:
    """Return the warnings that the table does not show itself, as missing models and reasons of failures."""
    reasons = {host["host"]: host["reason"] for host in report["hosts"]}
    return [
        message(f"{row['host']}: {row['text']}")
        for row in report["warnings"]
        if not row["text"].endswith(": missing") and not (reasons[row["host"]] and reasons[row["host"]] in row["text"])
    ]


def create(
    args: t.Mapping[str, t.Any], variables: t.Mapping[str, t.Any], *, check: bool, now: float
) -> dict[str, t.Any]:
    """Return the result of the task, after writing the page and the JSON if a file is given."""
    if args["file"] and os.path.splitext(args["file"])[1] not in (".html", ".htm"):
        raise OllamaError("value_invalid", f"file: invalid value {args['file']!r}; expected a name that ends in .html")
    predicted = check if args["predicted"] is None else args["predicted"]
    hosts = host_facts(variables)
    measured = for_report(args["benchmarks"], hosts) if args["benchmarks"] else {}
    report = build(hosts, check=predicted, now=now, benchmark=measured)
    written = []
    if args["file"]:
        plots = {host: result["plots"] for host, result in measured.items()}
        texts = {args["file"]: page(report, now, plots), json_path(args["file"]): json.dumps(report, indent=1) + "\n"}
        for path, text in texts.items():
            write_atomically(path, text, code="report_unwritable", option="file")
            written.append(path)
    return {"changed": False, "lines": table(report, now), "report": report, "files": written}


class ActionModule(CollectionAction):
    """The task kaido.ollama.report."""

    _requires_connection = False
    # It follows tasks that refuse an ansible-core that is too old; the failure is not repeated.
    _checks_core = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Build the report, write it, and print the table."""
        args = self.options(SPEC)
        if not any(is_observed(task_vars["hostvars"][host]) for host in task_vars["ansible_play_hosts_all"]):
            return {"changed": False, "skipped": True, "msg": "no host was contacted"}
        created = create(args, task_vars, check=bool(self._task.check_mode), now=time.time())
        for text in urgent(created["report"]):
            Display().warning(text)
        show("\n" + "\n".join([*created["lines"], *(f"Report: {path}" for path in created["files"])]))
        return created
