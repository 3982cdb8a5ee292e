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
  - Needs no lspci and no gathered facts. C(nvidia-smi), C(rocm-smi) and C(dkms) are asked only where a GPU was found
    and the program is installed.
  - Works for an unprivileged user, with less detail.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama._attributes.action_group
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
seealso:
  - module: kaido.ollama.probe
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
    vendor: {description: V(nvidia) or V(amd) or V(intel)., type: str, returned: always}
    pci_address: {description: For example V(0000:01:00.0), or null for a GPU without one., type: str, returned: always}
    pci_id: {description: Vendor and device, for example V(10de:2684)., type: str, returned: always}
    name: {description: The model where known., type: str, returned: always}
    driver: {description: The kernel driver that is bound to it or null., type: str, returned: always}
    integrated: {description: Whether it shares the processor's memory., type: bool, returned: always}
    generation: {description: NVIDIA's generation, for example V(Ada)., type: str, returned: always}
    compute_capability:
      description: NVIDIA's, for example V(8.9); without a running driver what the PCI id tells, which is about right.
      type: str
      returned: always
    gfx_target: {description: The ROCm target of an AMD GPU, for example V(gfx1100)., type: str, returned: always}
    vram: {description: Bytes of memory where known., type: int, returned: always}
    nodes: {description: The device nodes that its use needs., type: list, elements: str, returned: always}
    library: {description: How Ollama would use it - V(cuda) or V(rocm) or V(vulkan)., type: str, returned: always}
    state:
      description:
        - V(ok), or the kind of problem.
        - One of V(no_driver), V(installed_not_loaded), V(module_not_built), V(mismatch), V(driver_too_old),
          V(uvm_missing), V(no_user_space), V(no_fabric_manager), V(no_permission), V(unsupported_target),
          V(integrated), V(no_compute), V(no_vulkan) and V(reserved_for_passthrough).
      type: str
      returned: always
    usable: {description: Whether that version of Ollama can use it., type: bool, returned: always}
    reason: {description: Why not, in one sentence, or null., type: str, returned: always}
    reboot: {description: Whether a reboot would bring it nearer., type: bool, returned: always}
usable: {description: Whether there is a GPU that can be used., returned: success, type: bool}
summary: {description: The GPUs in one line., returned: success, type: str,
  sample: 'NVIDIA GeForce RTX 4090 at 0000:01:00.0: usable (cuda)'}
vram: {description: Bytes of memory of all usable GPUs where known., returned: success, type: int}
variant: {description: The archive of Ollama that its GPUs need beside the ordinary one - V(rocm), V(jetpack5),
  V(jetpack6) or empty., returned: success, type: str}
reboot_required: {description: Whether GPUs wait for a reboot., returned: success, type: bool}
reboot_reasons: {description: Why., returned: success, type: list, elements: str}
nvidia:
  description: NVIDIA's driver.
  returned: success
  type: dict
  contains:
    loaded: {description: The version that the kernel has loaded or null., type: str, returned: always}
    installed: {description: The version of libcuda.so.1 or null., type: str, returned: always}
    modules: {description: V(open) or V(proprietary)., type: str, returned: always}
    uvm: {description: Whether nvidia-uvm is loaded., type: bool, returned: always}
    built_for: {description: Kernels that have a module on disk., type: list, elements: str, returned: always}
    dkms: {description: What C(dkms status) says about it., type: list, elements: str, returned: always}
    user_space: {description: Whether libraries or programs of it are installed., type: bool, returned: always}
    nvswitches: {description: How many there are., type: int, returned: always}
    fabric_manager: {description: Whether what they need is installed., type: bool, returned: always}
    installer: {description: Whether it came by NVIDIA's C(.run) file., type: bool, returned: always}
amdgpu_dkms: {description: The version of a driver of AMD's own instead of the kernel's., returned: success, type: str}
nouveau: {description: Whether nouveau is loaded., returned: success, type: bool}
secure_boot: {description: Whether Secure Boot is on., returned: success, type: bool}
key_enrolled: {description: Whether the firmware trusts the key of DKMS., returned: success, type: bool}
platform: {description: V(host) or V(container) or V(wsl2) or V(jetson) or V(dgx)., returned: success, type: str}
container: {description: The kind of container or null., returned: success, type: str}
l4t: {description: The Jetson's Linux for Tegra or null., returned: success, type: str}
kernel: {description: The kernel that runs., returned: success, type: str}
vulkan: {description: Whether Vulkan is installed., returned: success, type: bool}
nodes:
  description: The device nodes that there are.
  returned: success
  type: list
  elements: dict
  sample: [{group: render, mode: '0660', owner: root, path: /dev/kfd}]
failure:
  description: What went wrong, for programs.
  returned: failure
  type: dict
  contains:
    code: {description: A stable code., type: str, returned: always}
    message: {description: The same sentence as in RV(ignore:msg)., type: str, returned: always}
"""

import os
import re
import typing as t
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu, _gpu_judge
from ..module_utils._errors import OllamaError, finish

SPEC: dict[str, t.Any] = {
    "ollama_version": {"type": "str", "default": "0.35.1"},
    "user": {"type": "str"},
    "root": {"type": "path", "default": "/"},
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Look, then judge."""
    if not re.match(r"\d+\.\d+\.\d+", params["ollama_version"]):
        raise OllamaError(
            "invalid_option",
            f"ollama_version: {params['ollama_version']!r} is not allowed; allowed is a version such as 0.35.1",
        )
    if not os.path.isdir(params["root"]):
        raise OllamaError("invalid_option", f"root: {params['root']!r} is not a directory")
    here = params["root"] == "/"
    host = _gpu.look(params["root"], _gpu.run_program if here else _gpu.no_program)
    who = _gpu.account(params["user"])
    _gpu_judge.judge(
        host, params["ollama_version"], lambda path: who is not None and _gpu.denied(params["root"], who, path)
    )
    shown = asdict(host)
    for key in ("machine", "os_id", "os_like", "os_version", "codename"):
        del shown[key]
    reasons = _gpu_judge.reboot_reasons(host)
    usable = [gpu for gpu in host.gpus if gpu.usable]
    return dict(
        shown,
        changed=False,
        usable=bool(usable),
        summary=_gpu_judge.summary(host),
        vram=sum(gpu.vram or 0 for gpu in usable),
        variant=_gpu_judge.variant(host),
        reboot_required=bool(reasons),
        reboot_reasons=reasons,
    )


def main() -> None:
    """Run the module."""
    finish(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
