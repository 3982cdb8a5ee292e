#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what GPUs a host has, and whether Ollama can use them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell what GPUs a host has, and whether Ollama can use them
version_added: 0.1.0
description:
  - Finds GPUs of NVIDIA, AMD and Intel in sysfs and procfs, with what drives them, and says for each whether a version
    of Ollama can use it and, if not, why.
  - Needs no lspci and no gathered facts. C(nvidia-smi) and C(rocm-smi) are asked only where a GPU was found
    and they are installed.
  - Works for an unprivileged user, with less detail.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  ollama_version:
    description: The version of Ollama that is to use the GPUs. What it needs of drivers depends on it.
    type: str
    default: 0.35.1
  user:
    description:
      - The account that is to open the device nodes, for example V(ollama). By default whoever runs the module.
      - An account that does not exist yet is taken to be allowed.
    type: str
  root:
    description: Where the host's file system begins. Below anything but V(/), a copy of some host's files is read and
      no program is run.
    type: path
    default: /
  plan:
    description:
      - Also plan a driver for this host, and compare the host with the plan, as the role
        P(kaido.ollama.gpu_driver#role) does. The result is in RV(plan).
      - A plan that cannot be met is a failure that says what to do. Nothing is changed in any case.
    type: dict
    suboptions:
      state:
        description: V(absent) plans to undo what the role has done.
        type: str
        choices: [present, absent]
        default: present
      vendor:
        description: Whose driver.
        type: str
        choices: [auto, nvidia, amd, none]
        default: auto
      source:
        description: Where NVIDIA's driver comes from.
        type: str
        choices: [auto, distribution, nvidia]
        default: auto
      branch:
        description: NVIDIA's branch, for example V(580).
        type: str
        default: auto
      modules:
        description: Which of NVIDIA's kernel modules.
        type: str
        choices: [auto, open, proprietary]
        default: auto
      kernel:
        description: The kernel that will run, where that is another than now.
        type: str
        default: ""
      cards:
        description: PCI ids such as V(10de:2684) to plan for, instead of those that were found.
        type: list
        elements: str
        default: []
      hold:
        description: Keep the packages from being upgraded.
        type: bool
        default: false
      accept_mok:
        description: Accept that with Secure Boot a person has to enrol a key at the console.
        type: bool
        default: false
      amdgpu_dkms:
        description: The version of AMD's own driver; empty for the kernel's.
        type: str
        default: ""
      key_fingerprint:
        description: The fingerprint of the repository's key, where this collection knows none.
        type: str
        default: ""
      sleep_services:
        description: Services that use the GPU, stopped while the host sleeps.
        type: list
        elements: str
        default: []
notes:
  - 'Refusals of O(plan) have one of these RV(failure.code): V(gpu_branch_unknown), V(gpu_branch_too_old), V(gpu_card),
    V(gpu_card_too_old), V(gpu_cards_conflict), V(gpu_vendor_missing), V(gpu_platform), V(gpu_system), V(gpu_source),
    V(gpu_no_driver), V(gpu_epel), V(gpu_foreign_install), V(gpu_repository_conflict), V(gpu_key_unknown), V(gpu_hold),
    V(gpu_firmware), V(gpu_secure_boot), V(gpu_amdgpu_version), V(gpu_amdgpu_integrated), V(gpu_amdgpu_system) and
    V(gpu_amdgpu_kernel).'
seealso:
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: What GPUs are there?
  kaido.ollama.gpu_info:
    user: ollama
  register: gpu

- name: Fail with the reason unless all of them can be used
  ansible.builtin.assert:
    that: gpu.gpus | length > 0 and gpu.gpus | rejectattr("usable") | length == 0
    fail_msg: "{{ gpu.summary }}"
"""

RETURN = r"""
gpus:
  description: The GPUs, by PCI address. Virtual displays and those of server management are none.
  returned: success
  type: list
  elements: dict
  contains:
    vendor: {description: 'V(nvidia) or V(amd) or V(intel).', type: str, returned: always}
    pci_address: {description: 'For example V(0000:01:00.0), or null.', type: str, returned: always}
    pci_id: {description: 'Vendor and device, for example V(10de:2684).', type: str, returned: always}
    name: {description: 'The model where known.', type: str, returned: always}
    driver: {description: 'The kernel driver that is bound to it or null.', type: str, returned: always}
    integrated: {description: 'Whether it shares the processor''s memory.', type: bool, returned: always}
    generation: {description: 'NVIDIA''s generation, for example V(Ada).', type: str, returned: always}
    compute_capability:
      description: NVIDIA's, for example V(8.9); without a running driver what the PCI id tells, which is about right.
      type: str
      returned: always
    gfx_target: {description: 'The ROCm target of an AMD GPU, for example V(gfx1100).', type: str, returned: always}
    vram: {description: 'Bytes of memory where known.', type: int, returned: always}
    nodes: {description: 'The device nodes that its use needs.', type: list, elements: str, returned: always}
    library: {description: 'How Ollama would use it - V(cuda) or V(rocm) or V(vulkan).', type: str, returned: always}
    state:
      description:
        - V(ok), or the kind of problem.
        - One of V(no_driver), V(installed_not_loaded), V(module_not_built), V(mismatch), V(driver_too_old),
          V(uvm_missing), V(no_user_space), V(no_fabric_manager), V(no_permission), V(unsupported_target),
          V(integrated), V(no_compute), V(no_vulkan) and V(reserved_for_passthrough).
      type: str
      returned: always
    usable: {description: 'Whether that version of Ollama can use it.', type: bool, returned: always}
    reason: {description: 'Why not, in one sentence, or null.', type: str, returned: always}
    reboot: {description: 'Whether a reboot would bring it nearer.', type: bool, returned: always}
usable: {description: 'Whether there is a GPU that can be used.', returned: success, type: bool}
summary: {description: 'The GPUs in one line.', returned: success, type: str,
  sample: 'NVIDIA GeForce RTX 4090 at 0000:01:00.0: usable (cuda)'}
vram: {description: 'Bytes of memory of all usable GPUs where known.', returned: success, type: int}
variant: {description: 'The archive of Ollama that its GPUs need beside the ordinary one - V(rocm), V(jetpack5),
  V(jetpack6) or empty.', returned: success, type: str}
reboot_required: {description: 'Whether GPUs wait for a reboot.', returned: success, type: bool}
reboot_reasons: {description: 'Why.', returned: success, type: list, elements: str}
nvidia:
  description: NVIDIA's driver.
  returned: success
  type: dict
  contains:
    loaded: {description: 'The version that the kernel has loaded or null.', type: str, returned: always}
    installed: {description: 'The version of libcuda.so.1 or null.', type: str, returned: always}
    modules: {description: 'V(open) or V(proprietary).', type: str, returned: always}
    uvm: {description: 'Whether nvidia-uvm is loaded.', type: bool, returned: always}
    built_for: {description: 'Kernels that have a module on disk.', type: list, elements: str, returned: always}
    dkms: {description: 'What C(dkms status) would say about it.', type: list, elements: str, returned: always}
    user_space: {description: 'Whether libraries or programs of it are installed.', type: bool, returned: always}
    nvswitches: {description: 'How many there are.', type: int, returned: always}
    fabric_manager: {description: 'Whether what they need is installed.', type: bool, returned: always}
    installer: {description: 'Whether it came by NVIDIA''s C(.run) file.', type: bool, returned: always}
amdgpu_dkms: {description: 'The version of AMD''s own driver or null.', returned: success, type: str}
nouveau: {description: 'Whether nouveau is loaded.', returned: success, type: bool}
secure_boot: {description: 'Whether Secure Boot is on.', returned: success, type: bool}
key_enrolled: {description: 'Whether the firmware trusts the key of DKMS.', returned: success, type: bool}
platform: {description: 'V(host) or V(container) or V(wsl2) or V(jetson) or V(dgx).', returned: success, type: str}
container: {description: 'The kind of container or null.', returned: success, type: str}
l4t: {description: 'The Jetson''s Linux for Tegra or null.', returned: success, type: str}
kernel: {description: 'The kernel that runs.', returned: success, type: str}
vulkan: {description: 'Whether Vulkan is installed.', returned: success, type: bool}
nodes:
  description: The device nodes that there are.
  returned: success
  type: list
  elements: dict
  sample: [{group: render, mode: '0660', owner: root, path: /dev/kfd}]
plan:
  description: What is to be there, and the steps that are missing.
  returned: with O(plan)
  type: dict
  contains:
    todo:
      description: The missing steps, in order, of V(key), V(files), V(packages), V(build), V(hold), V(services),
        V(load) and V(remove).
      type: list
      elements: str
      returned: always
    reasons: {description: 'Why each of them is missing.', type: dict, returned: always}
    vendor: {description: 'V(nvidia) or V(amd) or V(none).', type: str, returned: always}
    source:
      description: V(distribution), V(nvidia), V(amd), V(present) for a driver that works and stays, or V(none).
      type: str
      returned: always
    branch: {description: 'NVIDIA''s branch.', type: int, returned: always}
    modules: {description: 'V(open) or V(proprietary).', type: str, returned: always}
    kernel: {description: 'The kernel that will run.', type: str, returned: always}
    family: {description: 'V(deb) or V(rpm).', type: str, returned: always}
    dkms: {description: 'Whether the module is built on the host.', type: bool, returned: always}
    packages: {description: 'What is to be installed.', type: list, elements: str, returned: always}
    headers: {description: 'Those of them that hold headers.', type: list, elements: str, returned: always}
    files: {description: 'The files that differ with path and content and mode.', type: list, elements: dict,
      returned: always}
    paths: {description: 'All files of the plan.', type: list, elements: str, returned: always}
    stale: {description: 'Files of an earlier plan.', type: list, elements: str, returned: always}
    key: {description: 'The repository''s key with url and fingerprint and path or null.', type: dict, returned: always}
    enablerepo: {description: 'Repositories to switch on for it.', type: list, elements: str, returned: always}
    services: {description: 'Units to enable.', type: list, elements: str, returned: always}
    hold: {description: 'Whether packages are to be held.', type: bool, returned: always}
    image: {description: 'Whether it is for a system that does not run now.', type: bool, returned: always}
    notes: {description: 'What a person should know.', type: list, elements: str, returned: always}
    record: {description: 'What earlier runs have changed.', type: dict, returned: always}
failure:
  description: What went wrong, for programs.
  returned: failure
  type: dict
  contains:
    code: {description: 'A stable code.', type: str, returned: always}
    message: {description: 'The same sentence as in RV(ignore:msg).', type: str, returned: always}
"""

import os
import re
import typing as t
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError, finish
from ..module_utils._gpu import driver_plan, driver_state, facts, support

SPEC: dict[str, t.Any] = {
    "ollama_version": {"type": "str", "default": "0.35.1"},
    "user": {"type": "str"},
    "root": {"type": "path", "default": "/"},
    "plan": {
        "type": "dict",
        "options": {
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "vendor": {"type": "str", "choices": ["auto", "nvidia", "amd", "none"], "default": "auto"},
            "source": {"type": "str", "choices": ["auto", "distribution", "nvidia"], "default": "auto"},
            "branch": {"type": "str", "default": "auto"},
            "modules": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
            "kernel": {"type": "str", "default": ""},
            "cards": {"type": "list", "elements": "str", "default": []},
            "hold": {"type": "bool", "default": False},
            "accept_mok": {"type": "bool", "default": False},
            "amdgpu_dkms": {"type": "str", "default": ""},
            "key_fingerprint": {"type": "str", "default": "", "no_log": False},
            "sleep_services": {"type": "list", "elements": "str", "default": []},
        },
    },
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Look, then judge, then plan."""
    if not re.match(r"\d+\.\d+\.\d+", params["ollama_version"]):
        raise OllamaError(
            "invalid_option",
            f"ollama_version: {params['ollama_version']!r} is not allowed; allowed is a version such as 0.35.1",
        )
    if not os.path.isdir(params["root"]):
        raise OllamaError("invalid_option", f"root: {params['root']!r} is not a directory")
    program = facts.run_program if params["root"] == "/" else facts.no_program
    host = facts.look(params["root"], program)
    who = facts.account(params["user"])
    support.judge(
        host, params["ollama_version"], lambda path: who is not None and facts.denied(params["root"], who, path)
    )
    shown = asdict(host)
    for key in ("machine", "os_id", "os_like", "os_version", "codename"):
        del shown[key]
    reasons = support.reboot_reasons(host)
    usable = [gpu for gpu in host.gpus if gpu.usable]
    result = dict(
        shown,
        changed=False,
        usable=bool(usable),
        summary=support.summary(host),
        vram=sum(gpu.vram or 0 for gpu in usable),
        variant=support.variant(host),
        reboot_required=bool(reasons),
        reboot_reasons=reasons,
    )
    if params["plan"]:
        result["plan"] = _plan(facts.Tree(params["root"]), host, params["plan"], program)
    return result


def _plan(tree: facts.Tree, host: facts.Host, asked: t.Mapping[str, t.Any], program: facts.Run) -> dict[str, t.Any]:
    done = driver_state.record(tree)
    wish = driver_plan.Wish(**{key: _fixed(value) for key, value in asked.items() if key != "state"})
    if asked["state"] == "absent":
        plan = driver_plan.Plan(kernel=wish.kernel or host.kernel)
        steps = {"remove": f"{driver_state.RECORD} says what was installed"} if done else {}
    else:
        plan = driver_plan.plan(wish, driver_state.target(tree, host))
        steps = driver_state.todo(tree, host, plan, done, program) if plan.vendor != "none" else {}
    return dict(
        asdict(plan),
        todo=list(steps),
        reasons=steps,
        files=[file._asdict() for file in driver_state.differing(tree, plan)],
        paths=[file.path for file in plan.files],
        stale=driver_state.stale(plan, done) if steps else [],
        key=plan.key._asdict() if plan.key else None,
        record=done,
    )


def _fixed(value: t.Any) -> t.Any:
    return tuple(value) if isinstance(value, list) else value


def main() -> None:
    """Run the module."""
    finish(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
