# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can this version of Ollama use this GPU, and if not, why: one state and one sentence for each. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from . import cards
from .facts import Gpu, Host

# Ollama checks NVIDIA's driver since 0.30; before, its documentation asked for 531.
FIRST_WITH_FLOORS = (0, 30)
FLOOR, FLOOR_BEFORE, FLOOR_OLD_CARDS = 550, 531, 570
# The kernel driver of ROCm 6.4, the oldest that drives the ROCm 7 which Ollama brings.
OLDEST_AMDGPU = (6, 12)
# The oldest kernel whose own driver knows the target; kernels of RHEL carry newer drivers than their number says.
OLDEST_KERNEL = {"gfx11": (6, 1), "gfx12": (6, 12)}

Denied = t.Callable[[str], bool]
"""Whether a device node is there and the server's account cannot open it."""


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("-")[0].split("+")[0]))


def floor(ollama: str, capability: str | None) -> int:
    """Return the oldest branch of NVIDIA's driver with which a version of Ollama uses a card."""
    if numbers(ollama) < FIRST_WITH_FLOORS:
        return FLOOR_BEFORE
    return FLOOR_OLD_CARDS if capability and numbers(capability) < (7, 0) else FLOOR


def judge(host: Host, ollama: str, denied: Denied) -> None:
    """Set `state`, `usable`, `library` and `reason` of each GPU."""
    for gpu in host.gpus:
        problem = _problem(host, gpu, ollama, denied)
        gpu.state, gpu.reason = problem or ("ok", None)
        gpu.usable = problem is None
        gpu.reboot = gpu.state == "mismatch" or (gpu.state == "installed_not_loaded" and not _can_load(host))


def _problem(host: Host, gpu: Gpu, ollama: str, denied: Denied) -> tuple[str, str] | None:
    if gpu.driver == "vfio-pci":
        return "reserved_for_passthrough", "it is reserved for a virtual machine (vfio-pci), so nothing here can use it"
    problem = _VENDORS[gpu.vendor](host, gpu, ollama)
    if problem is None:
        closed = [node for node in gpu.nodes if denied(node)]
        if closed:
            return "no_permission", f"the server's account may not open {', '.join(closed)}"
    return problem


# NVIDIA


def _nvidia(host: Host, gpu: Gpu, ollama: str) -> tuple[str, str] | None:
    if host.platform in ("wsl2", "jetson"):
        return None
    if gpu.generation == "Kepler or older":
        return (
            "unsupported_target",
            "it is of generation Kepler or older; Ollama needs Maxwell or newer",
        )
    if gpu.driver != "nvidia" or host.nvidia.loaded is None:
        return _not_loaded(host, gpu)
    return _too_old(host, gpu, ollama) or _incomplete(host)


def _too_old(host: Host, gpu: Gpu, ollama: str) -> tuple[str, str] | None:
    driver = host.nvidia
    if driver.installed and driver.installed != driver.loaded:
        return (
            "mismatch",
            f"the kernel has driver {driver.loaded} loaded, but {driver.installed} is installed: reload the module, "
            "or reboot",
        )
    least = floor(ollama, gpu.compute_capability)
    if numbers(str(driver.loaded))[0] < least:
        card = f" with compute capability {gpu.compute_capability}" if least == FLOOR_OLD_CARDS else ""
        return "driver_too_old", f"driver {driver.loaded} is too old: Ollama {ollama} needs {least} or newer{card}"
    return None


def _incomplete(host: Host) -> tuple[str, str] | None:
    driver, nodes = host.nvidia, {node["path"] for node in host.nodes}
    if driver.installed is None:
        same = f" of exactly version {driver.loaded}, as the host's driver" if host.platform == "container" else ""
        return "no_user_space", f"libcuda.so.1 is not installed; install NVIDIA's libraries{same}"
    if not driver.uvm or "/dev/nvidia-uvm" not in nodes:
        what = "module nvidia-uvm is not loaded" if not driver.uvm else "/dev/nvidia-uvm is missing"
        return "uvm_missing", f"{what}: modprobe nvidia-uvm, then nvidia-modprobe -u -c 0"
    if driver.nvswitches and not driver.fabric_manager:
        return "no_fabric_manager", "this machine has NVSwitches, and nvidia-fabricmanager is not installed"
    return None


def _can_load(host: Host) -> bool:
    """Return whether loading the module is enough; taking the console from nouveau is not safe."""
    return host.kernel in host.nvidia.built_for and not host.nouveau and (not host.secure_boot or host.key_enrolled)


def _not_loaded(host: Host, gpu: Gpu) -> tuple[str, str]:
    driver = host.nvidia
    if host.platform == "container":
        return "no_driver", "the container's host has no NVIDIA driver loaded for it"
    if host.kernel in driver.built_for:
        if host.nouveau:
            return "installed_not_loaded", "NVIDIA's driver is installed, but nouveau holds the card: reboot"
        if host.secure_boot and not host.key_enrolled:
            return (
                "installed_not_loaded",
                "NVIDIA's driver is installed but not loaded; Secure Boot is on, and keys that the firmware does not "
                "know are rejected: mokutil --import /var/lib/dkms/mok.pub, reboot, and confirm at the console",
            )
        return "installed_not_loaded", "NVIDIA's driver is installed, but not loaded: modprobe nvidia"
    if driver.built_for:
        return (
            "installed_not_loaded",
            f"NVIDIA's driver is built for kernel {driver.built_for[-1]}, but {host.kernel} runs: reboot",
        )
    if driver.user_space or driver.dkms:
        return (
            "module_not_built",
            f"NVIDIA's driver is installed, but has no module for kernel {host.kernel}: install its headers, then "
            "dkms autoinstall",
        )
    bound = f"{gpu.driver} drives it" if gpu.driver else "no driver is bound to it"
    return "no_driver", f"NVIDIA's driver is not installed ({bound})"


# AMD and Intel


def _amd(host: Host, gpu: Gpu, ollama: str) -> tuple[str, str] | None:
    if gpu.driver is None:
        return (
            "no_driver",
            "no driver is bound to it; usually its firmware is missing (Debian: firmware-amd-graphics): install it "
            "and reboot",
        )
    version = host.amdgpu_dkms
    if version and numbers(version) < OLDEST_AMDGPU:
        return (
            "driver_too_old",
            f"amdgpu {version} is too old: Ollama {ollama} brings ROCm 7, which needs 6.12 or newer",
        )
    if gpu.gfx_target is None or all(node["path"] != "/dev/kfd" for node in host.nodes):
        return "no_compute", "the driver offers no compute node for it (/sys/class/kfd, /dev/kfd)"
    if gpu.gfx_target not in cards.GFX_TARGETS:
        problem = f"ROCm target {gpu.gfx_target} is not one that Ollama is built for"
        return _vulkan(host, gpu, ollama, problem)
    if gpu.integrated and gpu.gfx_target != cards.GFX_INTEGRATED:
        return "integrated", f"it is integrated ({gpu.gfx_target}), and Ollama uses no such GPU unless told to"
    least = OLDEST_KERNEL.get(gpu.gfx_target[:5])
    if least and not version and ".el" not in host.kernel and numbers(host.kernel)[:2] < least:
        wanted = ".".join(str(number) for number in least)
        return (
            "driver_too_old",
            f"the amdgpu of kernel {host.kernel} is too old for {gpu.gfx_target}: {wanted} or newer",
        )
    return None


def _intel(host: Host, gpu: Gpu, ollama: str) -> tuple[str, str] | None:
    if gpu.driver is None:
        return "no_driver", "no driver is bound to it"
    return _vulkan(host, gpu, ollama, "Ollama uses GPUs of Intel through Vulkan only")


def _vulkan(host: Host, gpu: Gpu, ollama: str, why: str) -> tuple[str, str] | None:
    gpu.library = "vulkan"
    if gpu.integrated:
        return "integrated", "it is integrated, and Ollama uses no such GPU unless told to"
    if numbers(ollama) < FIRST_WITH_FLOORS:
        return "unsupported_target", f"{why}, and Ollama {ollama} has no Vulkan"
    if not host.vulkan:
        return "no_vulkan", f"{why}, and there is no Vulkan driver: install libvulkan1 and mesa-vulkan-drivers"
    return None


_VENDORS: dict[str, t.Callable[[Host, Gpu, str], tuple[str, str] | None]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "intel": _intel,
}


def reboot_reasons(host: Host) -> list[str]:
    """Return why this host has to be rebooted before its GPUs work; empty where it has not."""
    return sorted({f"{gpu.name or gpu.pci_id}: {gpu.reason}" for gpu in host.gpus if gpu.reboot})


def variant(host: Host) -> str:
    """Return which archive of Ollama fits beside the ordinary one: rocm, jetpack6, jetpack5, or none."""
    if host.platform == "jetson" and host.l4t:
        return {"36": "jetpack6", "35": "jetpack5"}.get(host.l4t.split(".")[0], "")
    # An account is put into its groups later.
    fits = (gpu.usable or gpu.state == "no_permission" for gpu in host.gpus if gpu.library == "rocm")
    return "rocm" if any(fits) else ""


def summary(host: Host) -> str:
    """Return one line for people."""
    if not host.gpus:
        return "no GPU"
    return "; ".join(
        f"{gpu.name or gpu.pci_id or gpu.vendor}{f' at {gpu.pci_address}' if gpu.pci_address else ''}: "
        + (f"usable ({gpu.library})" if gpu.usable else f"not usable: {gpu.reason}")
        for gpu in host.gpus
    )
