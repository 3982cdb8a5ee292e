#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the models of an Ollama server to the wanted state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model
short_description: Bring the models of an Ollama server to the wanted state
version_added: 0.1.0
description:
  - Pulls, updates, repairs, pins, names and removes models. One call takes the whole list.
  - Ollama trusts every file that exists in its store. This module compares each blob with its SHA-256 digest after a
    pull, and whenever
    the file has changed since; a damaged blob is removed and fetched again.
  - A model that is already as declared costs no request to any registry, and no byte is read of blobs that have not
    changed.
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
    details:
      - Asks the registries for the manifests of what would be pulled, about one kilobyte for each model.
      - On a host without a server yet, what is in O(models_dir) counts as installed.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description:
      - The models, as names or as mappings with the keys C(name), C(state), C(digest) and C(aliases), which mean what
        the options of
        that name mean.
      - Names are read as Ollama reads them, so V(llama3.2) is V(llama3.2:latest) and never V(llama3.2:1b).
    type: list
    elements: raw
  name:
    description: The one model, instead of O(models).
    type: str
  state:
    description:
      - V(present) wants the model to be there and sound; a registry is asked only if it is not.
      - V(latest) also wants it to be what the registry offers now; that is compared by digest, without pulling.
      - V(absent) removes exactly this name. Blobs that other models need stay.
    type: str
    choices: [present, latest, absent]
    default: present
  digest:
    description:
      - Pins O(name) to a manifest, as C(sha256:) and 64 hexadecimal digits. A registry that offers something else
        under that tag is
        refused before any byte is pulled.
      - For a tag that is a list of variants (Ollama 0.40 and newer) both the list's digest and the chosen variant's
        satisfy a pin, and so
        does the digest that was pulled after the server has converted the model by itself.
    type: str
  aliases:
    description: Further names of O(name); they share its blobs.
    type: list
    elements: str
  lock:
    description: Digests by model name, as in a lock file. A model's own O(digest) comes first.
    type: dict
  mirrors:
    description:
      - Base URLs of registries to try in order before the public one, for example V(http://hecate.lan:11480).
      - What a mirror offers must have the pinned digest, or else the digest that the public registry has. Where there
        is no pin and the public registry cannot be asked, a mirror is used only with O(mirrors_trusted). Models end
        under their ordinary names.
      - Mirrors are for models of the public registry; a name with a host of its own is pulled from there.
    type: list
    elements: str
    default: []
  mirrors_trusted:
    description:
      - Trust the digest that a mirror offers where a model has no pin and the public registry cannot be asked; a
        warning names the model.
      - Without it such a model is not pulled, which fails with V(mirror_unverified). A model that is already intact is
        left as it is.
    type: bool
    default: false
  source:
    description:
      - A bundle on this host, a directory or tar that M(kaido.ollama.model_export) wrote, in the place of all
        registries. No network is used.
      - What O(state) and O(digest) mean stays. V(present) brings a model that is missing, damaged or not the pinned
        one, and leaves alone one that is there under another digest than the bundle's, as when a registry has moved
        on. V(latest) wants what the bundle has.
      - Before the first byte is written all of the bundle is compared with its sums. One that is incomplete or was
        tampered with is refused. That it is the bundle which was meant, only O(digest) can tell.
      - As long as nothing has to be brought the bundle need not be there, but for V(latest).
    type: path
  insecure:
    description: Speak plain HTTP to the registry in a model's name. That is what Ollama means by C(insecure); mirrors
      have their own scheme.
    type: bool
    default: false
  verify:
    description:
      - V(changed) hashes the blobs whose files have changed since they were last found right, new ones included.
      - V(full) hashes all blobs of the declared models.
      - V(none) compares sizes only, or nothing where O(models_dir) cannot be read from where the module runs.
    type: str
    choices: [changed, full, none]
    default: changed
  exclusive:
    description: Remove every model that is neither declared nor in O(keep). With an empty list nothing is removed.
    type: bool
    default: false
  keep:
    description: Models that O(exclusive) leaves alone.
    type: list
    elements: str
    default: []
  parallel:
    description: How many models are pulled at the same time.
    type: int
    default: 1
  stall_timeout:
    description: Seconds without a new byte after which a pull is started again; it resumes where it was.
    type: float
    default: 90.0
  deadline:
    description: Seconds after which look-ups and pulls are given up; what was fetched is kept for the next run. V(0)
      means never.
    type: float
    default: 0.0
  allow_cloud:
    description: Allow models whose tag runs them in the cloud, so that prompts leave the host.
    type: bool
    default: false
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet.
    type: float
    default: 30.0
  expect_address:
    description:
      - Fail unless the server listens there, for example on V(127.0.0.1:11434), and nowhere else that is not loopback.
      - Looked at on the host that the module runs on.
    type: str
  expect_version:
    description: Fail unless this is the version of the server that answers.
    type: str
  unit:
    description:
      - The systemd unit of the server, on the host that the module runs on. Its journal tells what the server
        computes on, see
        RV(compute).
    type: str
  vram:
    description:
      - Bytes of GPU memory of the server. A model that is to be pulled and will not fit is a warning that says how much
        of it would run on the CPU. V(0) means that this is not known.
      - An estimate - the weights and a tenth for the context.
    type: int
    default: 0
  detach:
    description:
      - If something has to be pulled, do nothing and return with RV(pending) instead.
      - The collection's action plugin uses this, to run the pull in the background and show its progress.
    type: bool
    default: false
  progress_file:
    description: A file that the module keeps the progress of pulls in. The collection's action plugin uses this.
    type: path
notes:
  - A pull ends when its client goes away, and resumes in the next run; Ollama deletes unfinished downloads older than
    an hour when it starts.
  - 'Failures have a stable RV(ignore:failure.code). About input: V(invalid_name), V(invalid_digest),
    V(invalid_model), V(duplicate_model),
    V(invalid_mirror), V(invalid_url), V(invalid_option), V(cloud_model). About sources: V(tag_missing),
    V(digest_not_offered), V(mirror_unverified),
    V(digest_mismatch), V(registry_unreachable), V(registry_refused), V(registry_unsuitable), V(registry_is_http),
    V(tag_unsuitable) where a registry refuses a tag, such as one of several files, V(bad_manifest),
    V(no_variant), V(tls), V(stalled), V(connection_lost), V(deadline), V(bundle_unreadable),
    V(bundle_incomplete), V(bundle_tampered). About the host: V(unreachable), V(redirect_refused),
    V(bad_proxy), V(wrong_version), V(wrong_address), V(disk_full),
    V(busy), V(store_unreadable), V(store_unwritable), V(store_unsafe) for a link or for the rights of other accounts
    in the store, V(cannot_drop_privileges), V(store_mismatch), V(server_too_old), V(server_error),
    V(not_converged).'
seealso:
  - module: kaido.ollama.model_info
  - module: kaido.ollama.model_verify
  - module: kaido.ollama.model_export
"""

EXAMPLES = r"""
- name: Have a model
  kaido.ollama.model:
    name: llama3.2:3b

- name: Have these models, fetched over the LAN where possible
  kaido.ollama.model:
    models:
      - llama3.2:3b
      - name: nomic-embed-text:latest
        digest: sha256:0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f
        aliases: [default-embed]
      - name: qwen2.5-coder:7b
        state: latest
      - name: old-model:1b
        state: absent
    mirrors: [http://hecate.lan:11480]

- name: Have a model on a host without a network
  kaido.ollama.model:
    name: llama3.2:3b
    source: /media/usb/models.tar
"""

RETURN = r"""
models:
  description: One element for each declared model, in the order of the declaration.
  returned: success, and failure after something was changed
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    state:
      description: The wanted state.
      type: str
      returned: always
    digest_before:
      description: The digest at the start or null.
      type: str
      returned: always
    digest_after:
      description: The digest at the end or in check mode the expected one.
      type: str
      returned: always
    size:
      description: Bytes of the config and all layers.
      type: int
      returned: always
    changed:
      description: Whether this model or one of its aliases is another or in a better state than before.
      type: bool
      returned: always
    actions:
      description: What was done or in check mode would be.
      type: list
      elements: str
      returned: always
    bytes_pulled:
      description: Bytes fetched for it, or copied from O(source).
      type: int
      returned: always
    seconds:
      description: How long it took.
      type: float
      returned: always
    source:
      description: Where it came from in this run, the host of the registry in its name, the URL of a mirror or the path
        of the bundle. Null where nothing was fetched.
      type: str
      returned: always
    verified_at:
      description: When all its blobs had been hashed and were intact, in seconds since the epoch, or null.
      type: int
      returned: success
    damage:
      description: The damaged blobs that were found, with RV(ignore:kind) V(missing), V(short), V(long), V(content)
        or V(unreadable).
      type: list
      elements: dict
      returned: always
removed:
  description: What O(exclusive) removed.
  returned: success
  type: list
  elements: str
bytes_pulled:
  description: Bytes fetched in all.
  returned: success
  type: int
bytes_missing:
  description: Bytes that were or would be to fetch.
  returned: success
  type: int
bytes_free:
  description: Bytes free where the store is at the start.
  returned: success
  type: int
hashed_bytes:
  description: Bytes read to compare blobs with their digests.
  returned: success
  type: int
server_version:
  description: The version of the server that answered or null in check mode without a server.
  returned: success
  type: str
pending:
  description: That something has to be pulled.
  returned: with O(detach)
  type: bool
progress_file:
  description: Where to keep the progress then.
  returned: with O(detach)
  type: str
compute:
  description:
    - The devices that the server found when it started, as its journal has them, with V(library), V(name), V(total)
      and more. A single C(cpu) means that it found no usable GPU.
    - Empty unless O(unit) is given.
  returned: success
  type: list
  elements: dict
ansible_facts:
  description: As in M(kaido.ollama.service_info).
  returned: with O(expect_address)
  type: dict
failure:
  description: What went wrong, for programs.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code see the notes.
      type: str
      returned: always
    message:
      description: The same sentence as in RV(ignore:msg).
      type: str
      returned: always
"""

import contextlib
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import parse
from ..module_utils._core.progress import Progress
from ..module_utils._core.sockets import check as check_address
from ..module_utils._models.bundle_import import BundleSource
from ..module_utils._models.models import Models, Options, Wanted, converge, parse_wanted
from ..module_utils._models.registry import parse_mirror
from ..module_utils._server.api import newer_than
from ..module_utils._server.argspec import API, REGISTRY, STORE, client, finish, registry_environment
from ..module_utils._server.journal import read_compute
from ..module_utils._service.units import listening
from ..module_utils._store.findings import doubt
from ..module_utils._store.store import Memory, Store, exclusive, memory_path
from ..module_utils._store.verification import last_verified

# Seconds; a model of 400 GB over a slow line takes its time.
_LONGEST_WAIT = 24 * 3600.0

SPEC: dict[str, t.Any] = {
    "models": {"type": "list", "elements": "raw"},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "latest", "absent"], "default": "present"},
    "digest": {"type": "str"},
    "aliases": {"type": "list", "elements": "str"},
    "lock": {"type": "dict"},
    "mirrors": {"type": "list", "elements": "str", "default": []},
    "source": {"type": "path"},
    "mirrors_trusted": {"type": "bool", "default": False},
    "insecure": {"type": "bool", "default": False},
    "verify": {"type": "str", "choices": ["changed", "full", "none"], "default": "changed"},
    "exclusive": {"type": "bool", "default": False},
    "keep": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "parallel": {"type": "int", "default": 1},
    "stall_timeout": {"type": "float", "default": 90.0},
    "deadline": {"type": "float", "default": 0.0},
    "allow_cloud": {"type": "bool", "default": False},
    "startup_timeout": {"type": "float", "default": 30.0},
    "expect_version": {"type": "str"},
    "expect_address": {"type": "str"},
    "unit": {"type": "str"},
    "vram": {"type": "int", "default": 0},
    "detach": {"type": "bool", "default": False},
    "progress_file": {"type": "path"},
    **API,
    **REGISTRY,
    **STORE,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the input, then look, plan and act."""
    for option, least in (("parallel", 1), ("stall_timeout", 1), ("deadline", 0), ("startup_timeout", 0)):
        if params[option] < least:
            raise OllamaError(
                "invalid_option", f"{option}: {params[option]} is not allowed; allowed is {least} or more"
            )
    one = {"name": params["name"], "digest": params["digest"], "aliases": params["aliases"]}
    wanted = parse_wanted(
        [one] if params["name"] is not None else params["models"],
        state=params["state"],
        allow_cloud=params["allow_cloud"],
        locked=params["lock"],
    )
    options = Options(
        mirrors=tuple(parse_mirror(url) for url in params["mirrors"]),
        mirrors_trusted=params["mirrors_trusted"],
        insecure=params["insecure"],
        verify=params["verify"],
        stall_timeout=params["stall_timeout"],
        deadline=params["deadline"],
        parallel=params["parallel"],
        exclusive=params["exclusive"],
        keep=tuple(parse(name, allow_cloud=True, what="keep") for name in params["keep"]),
        detach=params["detach"],
        # The call that looked has said it; this one pulls.
        vram=0 if params["progress_file"] else params["vram"],
        environment=registry_environment(params),
    )
    path = memory_path(Store(params["models_dir"]), params["state_dir"])
    progress = Progress(params["progress_file"])
    try:
        if check_mode:
            return _converge(params, wanted, options, progress, check_mode=True)
        progress.note("waiting for another run on this host to end")
        with exclusive(path, seconds=0 if params["detach"] else params["deadline"] or _LONGEST_WAIT) as alone:
            progress.note("")
            if not alone and not params["detach"]:
                raise OllamaError("busy", f"another run is still working on {params['models_dir']}")
            result: dict[str, t.Any] = {"changed": False, "pending": True}
            if alone:
                result = _converge(params, wanted, options, progress, check_mode=False)
            return (
                {**result, "progress_file": f"{path[:-5]}-{uuid.uuid4()}.progress"} if "pending" in result else result
            )
    finally:
        progress.finish()


def _converge(
    params: t.Mapping[str, t.Any], wanted: list[Wanted], options: Options, progress: Progress, *, check_mode: bool
) -> dict[str, t.Any]:
    server = client(params)
    version: str | None = None
    try:
        version = server.wait(0 if check_mode else params["startup_timeout"])
    except OllamaError:
        if not check_mode:
            raise
    if params["expect_version"] and version != params["expect_version"] and not check_mode:
        raise OllamaError(
            "wrong_version",
            f"expect_version: {params['expect_version']} was expected, but {version} answers at {server.base_url}",
        )
    if params["expect_address"] and version:
        check_address(params["expect_address"])
    lists = newer_than(version or params["expect_version"] or "0", (0, 40))
    store: Store | None = Store(params["models_dir"], generation=2 if lists else 1)
    if store and not store.readable:
        if params["verify"] != "none" and not check_mode:
            raise OllamaError(
                "store_unreadable",
                f"models_dir: cannot read {store.root}; give the server's OLLAMA_MODELS, become, or set verify: none",
            )
        store = None
    with contextlib.ExitStack() as stack:
        supply = stack.enter_context(BundleSource(params["source"], lists=lists)) if params["source"] else None
        memory = Memory.of(Store(params["models_dir"]), params["state_dir"])
        doubt(memory)
        models = Models(server, store, memory, options, lists=lists, progress=progress, supply=supply)
        result = converge(models, wanted, server_up=version is not None, check_mode=check_mode)
        for item, row in zip(wanted, result.get("models", [])):
            entry = store.find(item.name) if store else None
            row["verified_at"] = last_verified(store, memory, entry) if store and entry else None
    if params["expect_address"]:
        result["ansible_facts"] = {"ollama_listening": listening()}
    return dict(result, server_version=version, compute=read_compute(params["unit"]) if params["unit"] else [])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        mutually_exclusive=[
            ("models", "name"),
            ("models", "digest"),
            ("models", "aliases"),
            ("source", "mirrors"),
            ("source", "mirrors_trusted"),
            ("source", "insecure"),
        ],
        required_one_of=[("models", "name")],
    )
    finish(module, run)


if __name__ == "__main__":
    main()
