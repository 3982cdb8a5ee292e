#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module monitoring: install or remove the monitoring program with its units."""

from __future__ import annotations

DOCUMENTATION = r"""
module: monitoring
short_description: Install or remove the monitoring of an Ollama server
version_added: 1.0.0
description:
  - Used by the role P(kaido.ollama.ollama_monitoring#role).
  - Writes a program that collects metrics for Prometheus and verifies the model store, its configuration and its
    systemd units, and creates a link to the metrics in the directory of the textfile collector of node_exporter. The
    program consists of the code of this collection and needs only the Python of the host.
  - Records the time of the converge and the number of changes. Writing this record is not a change.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Only the path and the size of the program are shown.
  idempotent:
    support: full
options:
  state:
    description: Whether the monitoring is installed or removed.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: The configuration and the units as a JSON text, contents by path.
    type: str
    default: "{}"
  user:
    description: The account of the units.
    type: str
    default: ollama-monitoring
  textfile_directory:
    description: The directory that the textfile collector of node_exporter reads.
    type: path
    default: /var/lib/prometheus/node-exporter
  exporter_package:
    description:
      - The package of node_exporter, for a host where O(textfile_directory) is missing.
      - Without it the module fails on such a host.
    type: str
  installed_package:
    description: The package that the role has installed in this run. It is returned when the monitoring is removed.
    type: str
  changes:
    description: Number of changes of this converge by part, for the metrics.
    type: dict
    default: {}
  required:
    description: Fail if the host cannot be monitored. V(false) makes this a warning.
    type: bool
    default: true
notes:
  - The codes in RV(failure.code) are C(root_required), C(textfile_directory_missing), C(textfile_taken),
    C(unit_failed), C(metrics_failed), C(store_unreadable) and C(install_failed).
  - The findings of the scheduled verification are written by an unprivileged account. They are reported, but never
    accepted as evidence that a blob is intact.
seealso:
  - module: kaido.ollama.model_verify
"""

EXAMPLES = r"""
- name: Install the monitoring
  kaido.ollama.monitoring:
    files: "{{ ollama_monitoring__files | to_json }}"
    exporter_package: prometheus-node-exporter
  become: true
  register: result

- name: Install the monitoring with another collector directory
  kaido.ollama.monitoring:
    files: "{{ ollama_monitoring__files | to_json }}"
    textfile_directory: /var/lib/node_exporter/textfiles
  become: true

- name: Only warn on a host that cannot be monitored
  kaido.ollama.monitoring:
    files: "{{ ollama_monitoring__files | to_json }}"
    required: false
  become: true

- name: Remove the monitoring
  kaido.ollama.monitoring:
    state: absent
  become: true
"""

RETURN = r"""
missing:
  description: The requirements that have to be installed before the units can run. Run the module again afterwards.
  returned: O(state=present)
  type: list
  elements: str
  sample: [package, account]
files:
  description: The files that were written or removed.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/lib/kaido-ollama/monitoring.pyz]
package:
  description: The package that the role had installed.
  returned: O(state=absent)
  type: str
  sample: prometheus-node-exporter
damaged:
  description: The damaged models of the last scheduled verification, with their problems.
  returned: O(state=present)
  type: dict
  sample: {"tiny:latest": ["model sha256:a909f554de2d has wrong content"]}
failure:
  description: The failure, or with O(required=false) the reason why the host is not monitored.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: textfile_directory_missing
"""

import re
import typing as t

from ..module_utils._core.errors import OllamaError, finish, json_object
from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._monitor import install
from ..module_utils._release.directories import readable_by_all


def _count(part: str, count: t.Any) -> int:
    if not re.fullmatch(r"\d{1,9}", str(count)):
        raise OllamaError("value_invalid", f"changes.{part}: invalid value {count!r}; expected a whole number")
    return int(count)


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Install or remove; returns the module's result."""
    require_root("installing the monitoring")
    wanted = install.Wanted(
        files=json_object(params["files"], "files"),
        user=params["user"],
        textfile_dir=params["textfile_directory"],
        exporter=params["exporter_package"],
        changes={str(part): _count(part, count) for part, count in params["changes"].items()},
    )
    if params["state"] == "absent":
        return _remove(wanted, check_mode)
    result: dict[str, t.Any] = {"changed": False, "missing": [], "files": [], "damaged": {}, "warnings": []}
    try:
        with readable_by_all():
            _install(wanted, params["installed_package"], check_mode, result)
        return result
    except OSError as exc:
        error = OllamaError("install_failed", f"{exc.filename}: {exc.strerror}")
    except OllamaError as exc:
        error = exc
    if params["required"]:
        raise error
    return dict(result, missing=[], warnings=[*result["warnings"], error.message])


def _install(wanted: install.Wanted, installed: str | None, check_mode: bool, result: dict[str, t.Any]) -> None:
    """Install; the result has the changes before they are made."""
    missing = install.missing(wanted)
    files = install.differing(wanted)
    obsolete = install.obsolete(wanted)
    links = install.link(wanted)
    starts = bool(files) or bool(obsolete) or bool(missing) or bool(install.inactive(wanted))
    damaged = install.damaged()
    result.update(
        changed=bool(files or missing or links or starts),
        missing=missing,
        files=[*files, *obsolete, *([install.link_path(wanted)] if links else [])],
        damaged=damaged,
        diff=[_diff(path, content) for path, content in files.items()],
        warnings=[
            f"the scheduled verification found damage in {name}: {'; '.join(problems)}; run playbook verify"
            for name, problems in list(damaged.items())[:20]
        ],
    )
    if check_mode:
        return
    install.remove_obsolete(obsolete)
    for path, content in files.items():
        install.put(path, content, install.mode_of(path))
    install.record(wanted, installed)
    if missing:
        return
    if links:
        install.make_link(wanted)
    # A store that was unreadable may have been repaired meanwhile.
    if starts or links or install.problem():
        install.start(wanted)
        problem = install.problem()
        if problem:
            raise OllamaError("store_unreadable", problem)


def _diff(path: str, content: bytes) -> dict[str, str]:
    """Return a file's difference for Ansible; of the program only its path and size."""
    if path.endswith(".pyz"):
        return {"before_header": path, "after_header": path, "before": "", "after": f"{len(content)} bytes\n"}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            before = file.read()
    except OSError:
        before = ""
    return {"before_header": path, "after_header": path, "before": before, "after": content.decode()}


def _remove(wanted: install.Wanted, check_mode: bool) -> dict[str, t.Any]:
    found = install.present(wanted)
    package = install.read_record().get("package")
    if found and not check_mode:
        install.remove(wanted)
    return {"changed": bool(found), "files": found, "package": package}


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {"type": "str", "default": "{}"},
            "user": {"type": "str", "default": "ollama-monitoring"},
            "textfile_directory": {"type": "path", "default": "/var/lib/prometheus/node-exporter"},
            "exporter_package": {"type": "str"},
            "installed_package": {"type": "str"},
            "changes": {"type": "dict", "default": {}},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
