#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather information about the GPUs of a host, and whether Ollama can use them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Gather information about GPUs, and whether Ollama can use them
version_added: 1.0.0
description:
  - Detects GPUs of NVIDIA, AMD and Intel with their drivers in sysfs and procfs, and returns for each GPU whether a
    version of Ollama can use it, and the reason if it cannot.
  - Requires neither lspci nor gathered facts. Runs C(nvidia-smi) and C(rocm-smi) if they are installed and a GPU of
    that vendor is found.
  - Works for an unprivileged user, with fewer details.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  ollama_version:
    description: The version of Ollama that uses the GPUs. The required versions of drivers depend on it.
    type: str
    default: 0.35.1
  user:
    description:
      - The account that opens the device nodes, for example V(ollama). By default the account that runs the module.
      - An account that does not exist yet is assumed to have access.
    type: str
  root:
    description: The root of the file system of the host. With any other value than V(/), the module reads a copy of the
      files of a host and runs no programs.
    type: path
    default: /
  plan:
    description:
      - Also plan a driver for this host, and compare the host with the plan, for the role
        P(kaido.ollama.gpu_driver#role). The result is in RV(plan).
      - Fails with the options if no driver is possible. Changes nothing in any case.
    type: dict
    suboptions:
      state:
        description: V(absent) plans the removal of everything that the role installed.
        type: str
        choices: [present, absent]
        default: present
      vendor:
        description: The vendor of the GPUs.
        type: str
        choices: [auto, nvidia, amd, none]
        default: auto
      source:
        description: The package source of the NVIDIA driver.
        type: str
        choices: [auto, distribution, nvidia]
        default: auto
      branch:
        description: The branch of the NVIDIA driver, for example V(580).
        type: str
        default: auto
      modules:
        description: The kind of the NVIDIA kernel modules.
        type: str
        choices: [auto, open, proprietary]
        default: auto
      kernel:
        description: The kernel of the target host, if it is not the running kernel.
        type: str
        default: ""
      cards:
        description: PCI IDs such as V(10de:2684) to plan for, instead of the GPUs of this host.
        type: list
        elements: str
        default: []
      hold:
        description: Exclude the driver packages from upgrades.
        type: bool
        default: false
      accept_mok:
        description: Accept that with Secure Boot a key must be enrolled manually at the console.
        type: bool
        default: false
      amdgpu_dkms:
        description: The version of the DKMS kernel driver of AMD; empty for the driver of the kernel.
        type: str
        default: ""
      key_fingerprint:
        description: The fingerprint of the repository key, if this collection does not contain it.
        type: str
        default: ""
      sleep_services:
        description: Services that use the GPU. They are stopped while the host is suspended.
        type: list
        elements: str
        default: []
notes:
  - 'Failures of O(plan) have one of these RV(failure.code): V(gpu_branch_unknown), V(gpu_branch_too_old),
    V(gpu_card_invalid), V(gpu_kernel_invalid), V(gpu_key_fingerprint_invalid), V(gpu_sleep_services_invalid),
    V(gpu_kernel_headers_unknown), V(gpu_card_too_old), V(gpu_cards_conflict), V(gpu_vendor_missing),
    V(gpu_platform_unsupported), V(gpu_system_unsupported), V(gpu_source_unsuitable), V(gpu_driver_unavailable),
    V(gpu_epel_missing), V(gpu_installation_foreign), V(gpu_repository_conflict), V(gpu_key_unknown),
    V(gpu_package_held), V(gpu_firmware_too_old), V(gpu_secure_boot_key_missing), V(gpu_amdgpu_version_unknown),
    V(gpu_amdgpu_integrated_unsupported), V(gpu_amdgpu_system_unsupported) and V(gpu_amdgpu_kernel_unsupported).'
seealso:
  - module: kaido.ollama.model_probe
"""

EXAMPLES = r"""
- name: Gather information about GPUs
  kaido.ollama.gpu_info:
    user: ollama
  register: gpu

- name: Verify that Ollama can use all GPUs
  ansible.builtin.assert:
    that: gpu.gpus | rejectattr("usable") | length == 0
    fail_msg: "{{ gpu.summary }}"

- name: Check whether another release of Ollama can use the GPUs
  kaido.ollama.gpu_info:
    ollama_version: 0.40.2

- name: Show which driver the role gpu_driver would install
  kaido.ollama.gpu_info:
    plan:
      vendor: nvidia
      source: nvidia
      cards: ["10de:2684"]

- name: Check whether the account of this play can use the GPUs
  kaido.ollama.gpu_info:
"""

RETURN = r"""
gpus:
  description: The GPUs, by PCI address. Virtual displays and those of server management are not included.
  returned: success
  type: list
  elements: dict
  contains:
    vendor: {description: 'V(nvidia) or V(amd) or V(intel).', type: str, returned: always}
    pci_address: {description: 'For example V(0000:01:00.0), or null.', type: str, returned: always}
    pci_id: {description: 'Vendor and device, for example V(10de:2684).', type: str, returned: always}
    name: {description: 'The model, if known.', type: str, returned: always}
    driver: {description: 'The kernel driver that is bound to it, or null.', type: str, returned: always}
    integrated: {description: 'Whether it uses the memory of the processor.', type: bool, returned: always}
    generation: {description: 'NVIDIA''s generation, for example V(Ada).', type: str, returned: always}
    compute_capability:
      description: NVIDIA's, for example V(8.9). Without a running driver, an approximation from the PCI ID.
      type: str
      returned: always
    gfx_target: {description: 'The ROCm target of an AMD GPU, for example V(gfx1100).', type: str, returned: always}
    vram: {description: 'Memory in bytes, if known.', type: int, returned: always}
    nodes: {description: 'The device nodes that it requires.', type: list, elements: str, returned: always}
    library:
      description: 'The library with which Ollama uses it - V(cuda) or V(rocm) or V(vulkan).'
      type: str
      returned: always
    state:
      description:
        - V(ok), or the kind of problem.
        - One of V(no_driver), V(installed_not_loaded), V(module_not_built), V(mismatch), V(driver_too_old),
          V(uvm_missing), V(no_user_space), V(no_fabric_manager), V(no_permission), V(unsupported_target),
          V(integrated), V(no_compute), V(no_vulkan), V(not_passed_in) and V(reserved_for_passthrough).
      type: str
      returned: always
    usable: {description: 'Whether that version of Ollama can use it.', type: bool, returned: always}
    reason: {description: 'The reason in one sentence, or null if it is usable.', type: str, returned: always}
    reboot: {description: 'Whether a reboot is required before it is usable.', type: bool, returned: always}
  sample:
    - vendor: nvidia
      pci_address: '0000:01:00.0'
      pci_id: 10de:2684
      name: NVIDIA GeForce RTX 4090
      driver: nvidia
      integrated: false
      generation: Ada
      compute_capability: '8.9'
      gfx_target: null
      vram: 25757220864
      nodes:
        - /dev/nvidiactl
        - /dev/nvidia-uvm
        - /dev/nvidia0
      library: cuda
      state: usable
      usable: true
      reason: null
      reboot: false
usable: {description: 'Whether Ollama can use a GPU of this host.', returned: success, type: bool, sample: true}
summary: {description: 'The GPUs in one line.', returned: success, type: str,
  sample: 'NVIDIA GeForce RTX 4090 at 0000:01:00.0: usable (cuda)'}
vram: {description: 'Memory of all usable GPUs in bytes, as far as known.', returned: success, type: int,
  sample: 25757220864}
variant:
  description: 'The additional archive of Ollama for its GPUs - V(rocm), V(jetpack5), V(jetpack6) or empty.'
  returned: success
  type: str
  sample: ''
reboot_required: {description: 'Whether GPUs require a reboot.', returned: success, type: bool, sample: false}
reboot_reasons: {description: 'The reasons.', returned: success, type: list, elements: str, sample: []}
nvidia:
  description: The NVIDIA driver.
  returned: success
  type: dict
  contains:
    loaded: {description: 'The version of the loaded kernel module, or null.', type: str, returned: always}
    installed: {description: 'The version of libcuda.so.1, or null.', type: str, returned: always}
    modules: {description: 'V(open) or V(proprietary).', type: str, returned: always}
    uvm: {description: 'Whether nvidia-uvm is loaded.', type: bool, returned: always}
    built_for: {description: 'The kernels with a module on disk.', type: list, elements: str, returned: always}
    dkms: {description: 'Its lines of C(dkms status).', type: list, elements: str, returned: always}
    user_space: {description: 'Whether its libraries or programs are installed.', type: bool, returned: always}
    nvswitches: {description: 'The number of NVSwitches.', type: int, returned: always}
    fabric_manager: {description: 'Whether nvidia-fabricmanager is installed.', type: bool, returned: always}
    installer: {description: 'Whether it was installed by NVIDIA''s C(.run) file.', type: bool, returned: always}
  sample:
    loaded: 580.95.05
    installed: 580.95.05
    modules: open
    uvm: true
    built_for:
      - 6.12.118-amd64
    dkms:
      - 'nvidia/580.95.05, 6.12.118-amd64, x86_64: installed'
    user_space: true
    nvswitches: 0
    fabric_manager: false
    installer: false
amdgpu_dkms: {description: 'The version of the DKMS kernel driver of AMD, or null.', returned: success, type: str,
  sample: null}
nouveau: {description: 'Whether nouveau is loaded.', returned: success, type: bool, sample: false}
secure_boot: {description: 'Whether Secure Boot is on.', returned: success, type: bool, sample: false}
key_enrolled:
  description: 'Whether the firmware trusts the key with which DKMS signs modules.'
  returned: success
  type: bool
  sample: false
mok_certificate:
  description: 'The certificate of that key.'
  returned: success
  type: str
  sample: /var/lib/dkms/mok.pub
platform: {description: 'V(host) or V(container) or V(wsl2) or V(jetson) or V(dgx).', returned: success, type: str,
  sample: host}
container: {description: 'The kind of container, or null.', returned: success, type: str, sample: null}
l4t: {description: 'The version of Linux for Tegra on a Jetson, or null.', returned: success, type: str, sample: null}
kernel: {description: 'The running kernel.', returned: success, type: str, sample: 6.12.118-amd64}
vulkan: {description: 'Whether Vulkan is installed.', returned: success, type: bool, sample: false}
nodes:
  description: The device nodes of GPUs.
  returned: success
  type: list
  elements: dict
  sample: [{group: render, mode: '0660', owner: root, path: /dev/kfd}]
plan:
  description: The driver plan, and the missing steps on this host.
  returned: with O(plan)
  type: dict
  contains:
    todo:
      description: The missing steps, in order, of V(key), V(files), V(packages), V(build), V(hold), V(services),
        V(load) and V(remove).
      type: list
      elements: str
      returned: always
    reasons: {description: 'The reason of each step.', type: dict, returned: always}
    vendor: {description: 'V(nvidia) or V(amd) or V(none).', type: str, returned: always}
    source:
      description: V(distribution), V(nvidia), V(amd), V(present) for a working driver that stays unchanged, or V(none).
      type: str
      returned: always
    branch: {description: 'NVIDIA''s branch.', type: int, returned: always}
    modules: {description: 'V(open) or V(proprietary).', type: str, returned: always}
    kernel: {description: 'The kernel that the driver is for.', type: str, returned: always}
    family: {description: 'V(deb) or V(rpm).', type: str, returned: always}
    dkms: {description: 'Whether the module is built on the host.', type: bool, returned: always}
    packages: {description: 'The packages.', type: list, elements: str, returned: always}
    headers: {description: 'Those of them that contain headers.', type: list, elements: str, returned: always}
    files: {description: 'The files that differ, with path and content and mode.', type: list, elements: dict,
      returned: always}
    stale: {description: 'Obsolete files of an earlier plan.', type: list, elements: str, returned: always}
    key:
      description: 'The repository''s key with url and fingerprint and path, or null.'
      type: dict
      returned: always
    enablerepo:
      description: 'Disabled repositories that the installation uses.'
      type: list
      elements: str
      returned: always
    services: {description: 'Units to enable.', type: list, elements: str, returned: always}
    held: {description: 'The packages that are excluded from upgrades.', type: list, elements: str, returned: always}
    released: {description: 'Packages that an earlier run has held.', type: list, elements: str, returned: always}
    new_packages: {description: 'The packages that are not installed yet.', type: list, elements: str,
      returned: always}
    image: {description: 'Whether it is for a system that does not run now.', type: bool, returned: always}
    notes: {description: 'Human-readable notes.', type: list, elements: str, returned: always}
    experimental: {description: 'Whether no test of this collection has installed this driver on this system.',
      type: bool, returned: always}
    record: {description: 'The state file - what earlier runs have changed.', type: dict, returned: always}
    next_record: {description: 'The state file for this plan.', type: dict, returned: always}
  sample:
    todo:
      - packages
      - build
    reasons:
      packages: not installed - nvidia-driver-cuda, nvidia-kernel-open-dkms
      build: no module for kernel 6.1.0-56-amd64
    vendor: nvidia
    source: nvidia
    branch: 580
    modules: open
    kernel: 6.1.0-56-amd64
    family: deb
    dkms: true
    packages:
      - linux-headers-amd64
      - nvidia-driver-cuda
      - nvidia-kernel-open-dkms
    headers:
      - linux-headers-amd64
    files:
      - path: /etc/modules-load.d/kaido-gpu-driver.conf
        content: "nvidia-uvm\n"
        mode: '0644'
    stale: []
    key:
      url: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/3bf863cc.pub
      fingerprint: EB693B3035CD5710E231E123A4B469963BF863CC
      path: /etc/apt/keyrings/kaido-gpu-driver.asc
    enablerepo: []
    services:
      - nvidia-persistenced.service
    held: []
    released: []
    new_packages:
      - nvidia-driver-cuda
      - nvidia-kernel-open-dkms
    image: false
    notes: []
    experimental: true
    record: {}
    next_record:
      packages:
        - nvidia-driver-cuda
        - nvidia-kernel-open-dkms
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
    code: gpu_driver_unavailable
"""

import os
import re
import typing as t
from dataclasses import asdict

from ..module_utils._core.errors import OllamaError, finish
from ..module_utils._core.options import Module
from ..module_utils._gpu import driver_plan, driver_state, support, tree
from ..module_utils._gpu.driver_request import DriverPlan, Request
from ..module_utils._gpu.facts import GpuHost

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
    """Gather, assess, then plan."""
    if not re.match(r"\d+\.\d+\.\d+", params["ollama_version"]):
        raise OllamaError(
            "value_invalid",
            f"ollama_version: invalid value {params['ollama_version']!r}; expected a version such as 0.35.1",
        )
    if not os.path.isdir(params["root"]):
        raise OllamaError("value_invalid", f"root: invalid value {params['root']!r}; expected a directory")
    program = tree.run_program if params["root"] == "/" else tree.no_program
    host, verdicts = support.examine(params["ollama_version"], tree.account(params["user"]), params["root"], program)
    shown = asdict(host)
    for key in ("machine", "os_id", "os_like", "os_version", "codename"):
        del shown[key]
    reasons = support.reboot_reasons(verdicts)
    usable = [verdict for verdict in verdicts if verdict.usable]
    result = dict(
        shown,
        changed=False,
        gpus=[verdict.as_dict() for verdict in verdicts],
        usable=bool(usable),
        summary=support.summary(verdicts),
        vram=sum(verdict.gpu.vram or 0 for verdict in usable),
        variant=support.variant(host, verdicts),
        reboot_required=bool(reasons),
        reboot_reasons=reasons,
    )
    if params["plan"]:
        result["plan"] = _plan(tree.Tree(params["root"]), host, verdicts, params["plan"], program)
    return result


def _plan(
    files: tree.Tree,
    host: GpuHost,
    verdicts: t.Sequence[support.Verdict],
    options: t.Mapping[str, t.Any],
    program: tree.Run,
) -> dict[str, t.Any]:
    done = driver_state.record(files)
    request = Request(**{key: _hashable(value) for key, value in options.items() if key != "state"})
    if options["state"] == "absent":
        plan = DriverPlan(kernel=request.kernel or host.kernel)
        steps = {"remove": f"{driver_state.RECORD} lists the changes of earlier runs"} if done else {}
    else:
        plan = driver_plan.plan(request, driver_state.target(files, host, verdicts))
        steps = driver_state.todo(files, host, verdicts, plan, done, program) if plan.vendor != "none" else {}
    new = driver_state.new_packages(files, plan, program) if "packages" in steps else []
    return dict(
        asdict(plan),
        todo=list(steps),
        reasons=steps,
        files=[file._asdict() for file in driver_state.differing(files, plan)],
        stale=driver_state.stale(plan, done) if steps else [],
        released=driver_state.released(plan, done),
        new_packages=new,
        key=plan.key._asdict() if plan.key else None,
        record=done,
        next_record=driver_state.next_record(plan, done, new),
    )


def _hashable(value: t.Any) -> t.Any:
    return tuple(value) if isinstance(value, list) else value


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
