#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit an Ollama model store, and repair it on request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_verify
short_description: Audit an Ollama model store, and repair it on request
version_added: 1.0.0
description:
  - Compares every manifest and blob of the selected models with its size and SHA-256 digest. Reads only the disk and
    needs no server.
  - Ollama itself never verifies its store. It lists and runs a model with damaged weights, and a pull reports success
    without repairing the model.
  - Also reports files that no model needs, and unfinished downloads. A single unreadable manifest prevents the cleanup
    by Ollama itself.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama.api.registry
  - kaido.ollama.api.store
  - kaido.ollama._attributes
  - kaido.ollama._attributes.action_group
attributes:
  check_mode:
    support: full
    details: Audits the store, and predicts the changes of O(repair).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  names:
    description: The models to audit, by default all models of the store.
    type: list
    elements: str
    default: []
  declared:
    description: The declared models, as in O(kaido.ollama.model#module:models). A declared model or alias that is
      missing in the store is a finding, for example because its disk is not mounted.
    type: list
    elements: raw
    default: []
  mode:
    description:
      - V(changed) hashes the blobs whose files have changed (size, times, inode, device) since they were last found
        intact.
      - V(full) hashes all blobs, with one thread for each processor.
    type: str
    choices: [changed, full]
    default: changed
  repair:
    description: Remove damaged blobs and pull their models again. This requires a running server.
    type: bool
    default: false
  mirrors:
    description: The registries from which O(repair) pulls, as in M(kaido.ollama.model).
    type: list
    elements: str
    default: []
  mirrors_trusted:
    description: As in M(kaido.ollama.model).
    type: bool
    default: false
  insecure:
    description: As in M(kaido.ollama.model).
    type: bool
    default: false
  report_file:
    description: A file to write the report to, as JSON.
    type: path
  fail_on:
    description: The kinds of findings that make the module fail if they remain at the end. With an empty list the
      module only reports.
    type: list
    elements: str
    choices: [damage, orphans, partials]
    default: [damage]
notes:
  - 'Values of RV(ignore:failure.code): V(verification_failed), V(model_missing), V(name_invalid), V(store_unreadable),
    V(store_unsafe), V(privileges_not_dropped), V(report_unwritable), and with O(repair) those of
    M(kaido.ollama.model).'
seealso:
  - module: kaido.ollama.model
"""

EXAMPLES = r"""
- name: Verify all models
  kaido.ollama.model_verify:
    mode: full
  become: true

- name: Verify and repair all models
  kaido.ollama.model_verify:
    repair: true
  become: true

- name: Verify the declared models, and fail also if one is missing
  kaido.ollama.model_verify:
    declared: "{{ ollama_models }}"
  become: true

- name: Report unused files and unfinished downloads without failing
  kaido.ollama.model_verify:
    fail_on: []
  become: true
  register: store

- name: Show the unused files
  ansible.builtin.debug:
    var: store.orphans

- name: Verify two models and write a report
  kaido.ollama.model_verify:
    names: [llama3.2:3b, nomic-embed-text]
    report_file: /var/log/ollama-models.json
  become: true
"""

RETURN = r"""
models:
  description: One element for each audited model.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    digest:
      description: Digest of the manifest that the server runs, or null.
      type: str
      returned: always
    size:
      description: Bytes of the config and all layers.
      type: int
      returned: always
    verified_at:
      description: The time at which all its blobs had been hashed and were intact, in seconds since the epoch, or null.
      type: int
      returned: always
    problems:
      description: The problems, one sentence each.
      type: list
      elements: str
      returned: always
    damage:
      description: The damaged blobs with RV(ignore:kind) V(missing), V(short), V(long), V(content) or V(unreadable).
      type: list
      elements: dict
      returned: always
  sample:
    - name: llama3.2:3b
      digest: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
      verified_at: 1795730727
      problems: []
      damage: []
damaged:
  description: Names of the models with problems.
  returned: always
  type: list
  elements: str
  sample: []
repaired:
  description: Names of the models that were repaired, or in check mode would be repaired.
  returned: always
  type: list
  elements: str
  sample: []
orphans:
  description: Files among the blobs that no model needs, with their sizes.
  returned: always
  type: list
  elements: dict
  sample:
    - file: sha256-5a33ee05fd6c1e1fd9c5b154f4c70ccb23a736343e50ef1f4c61c69f186b07da
      size: 735
partials:
  description: Unfinished downloads with digest, bytes completed, bytes on the disk, and age in seconds.
  returned: always
  type: list
  elements: dict
  sample:
    - digest: sha256:1111111111111111111111111111111111111111111111111111111111111111
      completed: 0
      disk_bytes: 4096
      age_seconds: 0.2
blobs:
  description: Number of blobs of the selected models.
  returned: always
  type: int
  sample: 6
hashed_blobs:
  description: Number of blobs that were read.
  returned: always
  type: int
  sample: 6
hashed_bytes:
  description: Number of bytes that were read.
  returned: always
  type: int
  sample: 2019393189
summary:
  description: The numbers of this result as one line.
  returned: always
  type: str
  sample: "1 model, 0 damaged; read: 6 blobs, 2.0 GB; 1 unused file, 1 unfinished download"
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: verification_failed
"""

import contextlib
import json
import typing as t

from ..module_utils._core import fs
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import Name, parse
from ..module_utils._core.options import Module
from ..module_utils._core.progress import human
from ..module_utils._models.converge import converge
from ..module_utils._models.declaration import DeclaredModel, parse_models
from ..module_utils._models.registry import parse_mirror
from ..module_utils._models.session import Options, Session
from ..module_utils._server.api import client, newer_than
from ..module_utils._server.argspec import API, REGISTRY, STORE, finish, registry_environment
from ..module_utils._store.findings import doubt
from ..module_utils._store.state import Memory, exclusive
from ..module_utils._store.store import Store
from ..module_utils._store.verification import Report, add_missing, failures, verify

# Seconds to wait for another run on the same store.
_WAIT = 600.0
# Seconds to wait for it where only the next audit would be faster.
_SAVE_WAIT = 30.0

SPEC: dict[str, t.Any] = {
    "names": {"type": "list", "elements": "str", "default": []},
    "declared": {"type": "list", "elements": "raw", "default": []},
    "mode": {"type": "str", "choices": ["changed", "full"], "default": "changed"},
    "repair": {"type": "bool", "default": False},
    "mirrors": {"type": "list", "elements": "str", "default": []},
    "mirrors_trusted": {"type": "bool", "default": False},
    "insecure": {"type": "bool", "default": False},
    "report_file": {"type": "path"},
    "fail_on": {"type": "list", "elements": "str", "choices": ["damage", "orphans", "partials"], "default": ["damage"]},
    **API,
    **REGISTRY,
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Audit, repair on request, audit again, report."""
    names = [parse(name, allow_cloud=True, what="names") for name in params["names"]]
    wanted = parse_models(params["declared"], state="present", allow_cloud=True, variable="declared")
    present = [item for item in wanted if item.state != "absent"]
    declared = [name for item in present for name in (item.name, *item.aliases)]
    options = Options(
        mirrors=tuple(parse_mirror(url) for url in params["mirrors"]),
        mirrors_trusted=params["mirrors_trusted"],
        insecure=params["insecure"],
        environment=registry_environment(params),
    )
    store = Store(params["models_dir"])
    memory = Memory.of(store, params["state_dir"])
    doubt(memory)
    report = first = add_missing(verify(store, memory, names, mode=params["mode"]), declared, store)
    if not check_mode:
        memory.save_verified(seconds=_SAVE_WAIT)
    repaired: list[str] = []
    warnings: list[str] = []
    failed: list[OllamaError] = []
    if params["repair"] and first.repairable:
        with contextlib.ExitStack() as stack:
            if not check_mode:
                if not stack.enter_context(exclusive(memory.path, seconds=_WAIT)):
                    raise OllamaError("lock_held", f"another run is still working on {store.root}")
                memory = Memory.load(memory.path)
            repaired, warnings, failed = _repair(params, options, memory, first.repairable, check_mode)
            if not check_mode:
                report = add_missing(verify(store, memory, names, mode="changed"), declared, store)
                memory.save()
    result = dict(
        report.to_dict(),
        changed=bool(repaired),
        repaired=repaired,
        warnings=warnings,
        hashed_blobs=first.hashed_blobs,
        hashed_bytes=first.hashed_bytes,
        diff={"before": _state(first), "after": {name: [] for name in _state(first)} if repaired else _state(report)},
    )
    result["summary"] = _summary(result)
    if params["report_file"] and not check_mode:
        _write(params["report_file"], {key: value for key, value in result.items() if key not in ("diff", "warnings")})
    if failed:
        text = "; ".join(exc.message for exc in failed)
        raise OllamaError(failed[0].code, text, **dict(failed[0].details, result=result))
    found = failures(report, params["fail_on"])
    if found and not (check_mode and repaired):
        raise OllamaError("verification_failed", "; ".join(found), result=result)
    return result


def _summary(result: t.Mapping[str, t.Any]) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    return (
        f"{count(len(result['models']), 'model')}, {len(result['damaged'])} damaged; "
        f"read: {count(result['hashed_blobs'], 'blob')}, {human(result['hashed_bytes'])}; "
        f"{count(len(result['orphans']), 'unused file')}, {count(len(result['partials']), 'unfinished download')}"
    )


def _repair(
    params: t.Mapping[str, t.Any], options: Options, memory: Memory, damaged: t.Sequence[Name], check_mode: bool
) -> tuple[list[str], list[str], list[OllamaError]]:
    """Pull each damaged model; returns the names of the repaired ones, warnings, and the failures of the others."""
    server = client(params)
    version = server.version()
    lists = newer_than(version, (0, 40))
    store = Store(params["models_dir"], generation=2 if lists else 1)
    repaired: list[str] = []
    warnings: list[str] = []
    failed: list[OllamaError] = []
    for name in damaged:
        # One at a time: a model that no registry has must not prevent the repair of the others.
        session = Session(server, store, memory, options, lists=lists, version=version)
        try:
            warnings += converge(session, [DeclaredModel(name)], check_mode=check_mode)["warnings"]
            repaired.append(str(name))
        except OllamaError as exc:
            exc.details.pop("result", None)
            failed.append(exc)
    return repaired, warnings, failed


def _state(report: Report) -> dict[str, list[str]]:
    return {row["name"]: row["problems"] for row in report.models}


def _write(path: str, data: dict[str, t.Any]) -> None:
    """Write the report atomically, so that a reader never sees a part of it."""
    try:
        fs.write_atomic(path, json.dumps(data, indent=2) + "\n")
    except OSError as exc:
        raise OllamaError("report_unwritable", f"report_file: cannot write {path}: {exc.strerror}") from None


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
