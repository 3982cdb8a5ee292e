#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage the models of an Ollama server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model
short_description: Manage the models of an Ollama server
version_added: 1.0.0
description:
  - Pulls, updates, repairs, pins, renames, builds, loads, tests and removes models. One call manages the complete list.
  - Ollama trusts every file that exists in its store. This module compares each blob with its SHA-256 digest after a
    pull, and whenever the file has changed since. A damaged blob is removed and downloaded again.
  - A model that is already in the declared state needs no request to a registry, and unchanged blobs are not read.
  - A model that fails does not affect the other models; the module fails after it has processed all models.
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
      - Requests the manifests of the models that would be pulled from the registries, about one kilobyte for each
        model.
      - On a host without a server, the models in O(models_dir) are treated as installed.
      - Models are not tested.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models:
    description:
      - The models, as names or as mappings.
      - Every mapping has C(name). C(state), C(digest), C(aliases), C(source) and C(verify) have the meaning of the
        options of that name, for this model only.
      - C(loaded) V(true) loads the model into memory, V(false) unloads it. C(keep_alive) is the time that it stays
        loaded after its last use, by default V(forever); see M(kaido.ollama.model_loaded).
      - C(probe) V(true) tests that the model answers. A mapping adds limits, C(tokens_per_second) and C(gpu) V(true)
        for a model that must be completely in GPU memory; see M(kaido.ollama.model_probe). The test is run every time.
      - C(from), C(files), C(adapters), C(template), C(system), C(parameters), C(messages), C(license), C(quantize),
        C(renderer) and C(parser) declare a custom model, with the same meaning as in M(kaido.ollama.model_build). Files
        are on the host. Mark a C(template) as C(!unsafe), because Ansible would evaluate its braces.
      - Names are interpreted as in Ollama, so V(llama3.2) is V(llama3.2:latest) and never V(llama3.2:1b).
    type: list
    elements: raw
  name:
    description: A single model. Mutually exclusive with O(models), which has further keys.
    type: str
  state:
    description:
      - V(present) installs the model; registries are queried only if it is missing or damaged.
      - V(latest) also updates it to the version in the registry, which is compared by digest without a pull.
      - V(absent) removes exactly this name. Blobs that other models need stay.
    type: str
    choices: [present, latest, absent]
    default: present
  digest:
    description:
      - Pins O(name) to a manifest, as C(sha256:) and 64 hexadecimal digits. If a registry offers another manifest for
        this tag, the pull is refused before any byte is downloaded.
      - For a tag that is a list of variants (Ollama 0.40 and newer) both the digest of the list and the digest of the
        selected variant satisfy a pin. After the server has converted the model, the digest that was pulled also
        satisfies the pin.
    type: str
  aliases:
    description: Additional names of O(name), which share its blobs.
    type: list
    elements: str
  lock:
    description: Digests by model name, as in a lock file. The O(digest) of a model has precedence.
    type: dict
  mirrors:
    description:
      - Base URLs of registries to try in order before the public one, for example V(http://hecate.lan:11480).
      - The manifest of a mirror must have the pinned digest or, without a pin, the digest of the public registry. If
        there is no pin and the public registry cannot be queried, a mirror is only used with O(mirrors_trusted). Models
        get their usual names.
      - Mirrors serve models of the public registry. A model with another host in its name is pulled from that host.
    type: list
    elements: str
    default: []
  mirrors_trusted:
    description:
      - Trust the digest of a mirror if a model has no pin and the public registry cannot be queried. A warning contains
        the model.
      - Otherwise such a model is not pulled, and the module fails with V(mirror_unverified). A model that is already
        intact is not changed.
    type: bool
    default: false
  source:
    description:
      - A bundle on the host, a directory or tar that M(kaido.ollama.model_export) wrote, which replaces all registries.
        No network is used.
      - O(state) and O(digest) keep their meaning. V(present) copies a model that is missing, is damaged or does not
        have the pinned digest, and keeps a model whose digest differs from the digest in the bundle. V(latest) installs
        the version in the bundle.
      - The complete bundle is compared with its checksums before the first byte is written. A bundle that is
        incomplete or was modified is refused. Only O(digest) ensures that it is the intended bundle.
      - The bundle is not needed as long as no model has to be copied, except for V(latest).
      - If a model is missing in the bundle, nothing is changed.
    type: path
  insecure:
    description: Use plain HTTP for the registry in the name of a model, which is the meaning of C(insecure) in Ollama.
      The URLs of mirrors have a scheme.
    type: bool
    default: false
  verify:
    description:
      - V(changed) hashes the blobs whose files have changed since they were last found intact, including new ones.
      - V(full) hashes all blobs of the declared models.
      - V(none) compares sizes only, or nothing if the module cannot read O(models_dir).
    type: str
    choices: [changed, full, none]
    default: changed
  exclusive:
    description:
      - Remove every model that is neither declared nor in O(keep), and report each model before it is removed.
      - With an empty list nothing is removed.
    type: bool
    default: false
  keep:
    description: Models that O(exclusive) does not remove.
    type: list
    elements: str
    default: []
  parallel:
    description: Number of models that are pulled at the same time.
    type: int
    default: 1
  stall_timeout:
    description: Seconds without a new byte after which a pull is restarted and resumed.
    type: float
    default: 90.0
  deadline:
    description: Seconds after which requests to registries and pulls end. Downloaded data is kept for the next run.
      V(0) means no limit.
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
  build_timeout:
    description: Seconds without output of the server after which the build of a custom model fails.
    type: float
    default: 600.0
  load_timeout:
    description:
      - Timeout of loading, unloading or testing one model, in seconds or as a duration such as V(30m).
      - V(0) means a day, as the setting E(OLLAMA_LOAD_TIMEOUT) without a limit does.
    type: str
    default: 5m
  server:
    description:
      - Checks of the server in the same call, as described in M(kaido.ollama.server_info).
      - Except for O(server.version), the module must run on the host of the server.
    type: dict
    suboptions:
      version:
        description: Fail unless the server has this version.
        type: str
      address:
        description: Fail unless the server listens on this address, and on no other address except loopback.
        type: str
      unit:
        description: The systemd unit of the server. Its journal contains the devices that the server computes on, see
          RV(compute).
        type: str
      vram:
        description:
          - GPU memory of the server in bytes. A model that has to be pulled and does not fit results in a warning with
            its estimated memory. V(0) means unknown.
          - The estimate is the sum of weights, KV cache and overhead. KV cache and overhead are calculated from the
            architecture if another version of the model is on the host, and are a tenth of the weights otherwise.
        type: int
        default: 0
      gpu_settings:
        description: The settings of the server for the estimate, as C(gpu.settings) of M(kaido.ollama.preflight).
        type: dict
        default: {}
notes:
  - Models are pulled and built by an asynchronous job on the host, and the output shows its progress. The job continues
    after Ctrl-C and after a lost connection, and the next run waits for it. M(kaido.ollama.model_stop) and the playbook
    C(kaido.ollama.stop) stop it.
  - A pull that was interrupted resumes in the next run. Ollama deletes unfinished downloads that are older than an hour
    when it starts.
  - 'Failures have a stable RV(ignore:failure.code). About input: V(name_invalid), V(digest_invalid), V(model_invalid),
    V(model_duplicate), V(url_invalid), V(value_invalid), V(model_in_cloud), V(file_unreadable). About sources:
    V(tag_missing), V(digest_not_offered), V(mirror_unverified), V(digest_mismatch), V(registry_unreachable),
    V(registry_refused), V(registry_unsuitable), V(registry_is_http), V(tag_refused) if a registry refuses a tag, for
    example a tag with several files, V(manifest_invalid), V(model_unsupported), V(tls_failed), V(connection_stalled),
    V(connection_lost), V(deadline_exceeded), V(bundle_unreadable), V(bundle_incomplete), V(bundle_tampered). About
    custom models: V(model_missing) for a base that is not installed, V(quantize_unsupported), V(build_failed),
    V(model_damaged). About memory and tests: V(load_failed), V(server_busy), V(model_evicted), V(model_still_loaded),
    V(runner_failed), V(response_empty), V(model_on_cpu), V(model_partly_on_cpu), V(gpu_use_unconfirmed),
    V(model_too_slow). About the host: V(server_unreachable), V(redirect_refused), V(version_mismatch),
    V(address_mismatch), V(disk_full), V(lock_held), V(store_unreadable), V(store_unwritable), V(store_unsafe) for a
    link or for the permissions of other accounts in the store, V(privileges_not_dropped), V(store_mismatch),
    V(server_too_old), V(server_error), V(model_not_converged).'
seealso:
  - module: kaido.ollama.model_info
  - module: kaido.ollama.model_stop
  - module: kaido.ollama.model_verify
  - module: kaido.ollama.model_export
  - module: kaido.ollama.server_info
"""

EXAMPLES = r"""
- name: Install a model
  kaido.ollama.model:
    name: llama3.2:3b

- name: Manage several models, with a mirror on the LAN
  kaido.ollama.model:
    models:
      - llama3.2:3b
      - name: nomic-embed-text:latest
        digest: sha256:0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f
        aliases: [default-embed]
      - name: qwen2.5-coder:7b
        state: latest
        loaded: true
        probe:
          tokens_per_second: 20
          gpu: true
      - name: helper:1
        from: llama3.2:3b
        system: You are the helper of the operations team. Answer in one paragraph.
        template: !unsafe "{{ if .System }}{{ .System }} {{ end }}{{ .Prompt }}"
        parameters:
          num_ctx: 16384
      - name: old-model:1b
        state: absent
    mirrors: [http://hecate.lan:11480]

- name: Install a model on a host without a network
  kaido.ollama.model:
    name: llama3.2:3b
    source: /media/usb/models.tar

- name: Remove all models that are not declared
  kaido.ollama.model:
    models: [llama3.2:3b]
    exclusive: true
    keep: [experiment:latest]
"""

RETURN = r"""
models:
  description: One element for each declared model, in the order of the declaration. After a failure, only the models
    that were changed.
  returned: success, and failure after something was changed
  type: list
  elements: dict
  contains:
    name:
      description: The name as Ollama shows it.
      type: str
      returned: always
    state:
      description: The declared state.
      type: str
      returned: always
    digest_before:
      description: The digest at the start, or null.
      type: str
      returned: always
    digest_after:
      description: The digest at the end, or in check mode the expected digest.
      type: str
      returned: always
    size:
      description: Bytes of the config and all layers.
      type: int
      returned: always
    changed:
      description: Whether the digest, the integrity or the location in memory of this model or of an alias has changed.
      type: bool
      returned: always
    actions:
      description: The actions that were performed, or in check mode would be performed.
      type: list
      elements: str
      returned: always
    bytes_pulled:
      description: Bytes that were downloaded for it, or copied from O(source).
      type: int
      returned: always
    seconds:
      description: The duration in seconds.
      type: float
      returned: always
    source:
      description: The source in this run, which is the host of the registry in its name, the URL of a mirror or the
        path of the bundle. Null if nothing was downloaded or copied.
      type: str
      returned: always
    verified_at:
      description: The time at which all its blobs had been hashed and were intact, in seconds since the epoch, or null.
      type: int
      returned: success
    memory:
      description: The location in memory, as in M(kaido.ollama.model_loaded); null for a model without C(loaded).
      type: dict
      returned: always
    probe:
      description: The result of the test of inference, as in M(kaido.ollama.model_probe); null for a model that was not
        tested.
      type: dict
      returned: always
    damage:
      description: The damaged blobs that were found, with RV(ignore:kind) V(missing), V(short), V(long), V(content)
        or V(unreadable).
      type: list
      elements: dict
      returned: always
  sample:
    - name: llama3.2:3b
      state: present
      digest_before: null
      digest_after: sha256:a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72
      size: 2019393189
      changed: true
      actions:
        - pulled
      bytes_pulled: 2019393189
      seconds: 41.3
      source: registry.ollama.ai
      verified_at: 1795730727
      memory: null
      probe: null
      damage: []
messages:
  description: One sentence for each finding, repair and removal. They are printed, except with a callback plugin that
    writes a machine-readable format.
  returned: success, and failure after something was changed
  type: list
  elements: str
  sample: ['llama3.2:3b: pulled from registry.ollama.ai, 2.0 GB fetched']
removed:
  description: The models that O(exclusive) removed.
  returned: success
  type: list
  elements: str
  sample: ['old-model:1b']
undeclared:
  description: The number of other models that the server lists and that this task neither declares nor removes.
  returned: success
  type: int
  sample: 2
bytes_pulled:
  description: Bytes that were downloaded or copied for all models.
  returned: success
  type: int
  sample: 2019393189
bytes_missing:
  description: Bytes that were missing.
  returned: success
  type: int
  sample: 2019393189
bytes_free:
  description: Free bytes on the disk of the store at the start.
  returned: success
  type: int
  sample: 77186502656
hashed_bytes:
  description: Bytes read to compare blobs with their digests.
  returned: success
  type: int
  sample: 2019393189
server_version:
  description: The version of the server that answered, or null in check mode without a server.
  returned: success
  type: str
  sample: 0.35.1
compute:
  description:
    - The devices that the server found when it started, as listed in its journal, with V(library), V(name), V(total)
      and more. A single C(cpu) means that it found no usable GPU.
    - Empty unless O(server.unit) is given.
  returned: success
  type: list
  elements: dict
  sample:
    - library: CUDA
      name: CUDA0
      description: NVIDIA GeForce RTX 4090
      driver: '13.0'
      total: 23.5 GiB
ansible_facts:
  description: The fact C(ollama_report) for M(kaido.ollama.report), and C(ollama_listening) as in
    M(kaido.ollama.service_info).
  returned: with O(server.address)
  type: dict
  sample:
    ollama_listening:
      - service: server
        address: 127.0.0.1:11434
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
    code: tag_missing
"""


from ..module_utils._core.errors import finish
from ..module_utils._core.options import Module
from ..module_utils._models.call import CONFLICTS, REQUIRED, SPEC, run


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=SPEC, supports_check_mode=True, mutually_exclusive=CONFLICTS, required_one_of=REQUIRED
    )
    finish(module, run)


if __name__ == "__main__":
    main()
