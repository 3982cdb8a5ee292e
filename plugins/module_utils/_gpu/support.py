# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a version of Ollama can use, and why it cannot use the others: a state and a reason for each.

`assess` is pure; `examine` reads a host first.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass

from . import cards, facts
from .facts import Gpu, GpuHost
from .tree import Account, Run, denied, run_program

# Ollama checks the version of NVIDIA's driver since 0.30. The documentation of earlier versions requires 531.
FIRST_WITH_FLOORS = (0, 30)
FLOOR, FLOOR_BEFORE, FLOOR_OLD_CARDS = 550, 531, 570
# The kernel driver of ROCm 6.4, the oldest that works with the ROCm 7 of Ollama.
OLDEST_AMDGPU = (6, 12)
# The oldest kernel whose driver supports the target. Kernels of RHEL contain newer drivers than their version suggests.
OLDEST_KERNEL = {"gfx11": (6, 1), "gfx12": (6, 12)}
# States in which a server without this GPU works as intended, so that nothing on the host needs repair.
_NOT_EXPECTED = ("integrated", "reserved_for_passthrough", "unsupported_target", "no_vulkan", "not_passed_in")

Denied = t.Callable[[str], bool]
"""Returns whether a device node exists and the server's account cannot open it."""


@dataclass(frozen=True)
class Verdict:
    """Whether a version of Ollama can use a GPU, and with which library."""

    gpu: Gpu
    library: str
    """cuda, rocm or vulkan."""
    state: str
    reason: str | None
    reboot: bool
    """Whether a reboot is required before the GPU can be used."""

    @property
    def usable(self) -> bool:
        return self.state == "ok"

    @property
    def expected(self) -> bool:
        """Whether a server that does not use this GPU has a fault that can be repaired."""
        # GPUs with the driver radeon are too old for Ollama.
        ignored = self.gpu.integrated or self.gpu.driver == "radeon" or self.state in _NOT_EXPECTED
        return self.usable or not ignored

    @property
    def label(self) -> str:
        return self.gpu.name or self.gpu.pci_id or self.gpu.vendor

    def as_dict(self) -> dict[str, t.Any]:
        """Return the GPU with the verdict about it."""
        return dict(
            asdict(self.gpu),
            library=self.library,
            state=self.state,
            usable=self.usable,
            reason=self.reason,
            reboot=self.reboot,
        )


class _Finding(t.NamedTuple):
    state: str = "ok"
    reason: str | None = None
    library: str | None = None


_OK = _Finding()


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version; a suffix after - or + is ignored."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("-")[0].split("+")[0]))


def floor(ollama: str, capability: str | None) -> int:
    """Return the oldest branch of NVIDIA's driver with which a version of Ollama uses a GPU.

    :param capability: the compute capability of the GPU, such as 8.6; None if unknown.
    """
    if numbers(ollama) < FIRST_WITH_FLOORS:
        return FLOOR_BEFORE
    return FLOOR_OLD_CARDS if capability and numbers(capability) < (7, 0) else FLOOR


def examine(
    ollama: str, account: Account | None, root: str = "/", run: Run = run_program
) -> tuple[GpuHost, list[Verdict]]:
    """Read the GPUs of a host and assess them for a version of Ollama.

    :param account: the account of the server, which must be able to open the device nodes; None if unknown.
    :param root: the root of the host's file system.
    :param run: runs the vendors' programs.
    """
    host = facts.gather(root, run)
    return host, assess(host, ollama, lambda path: denied(root, account, path))


def assess(host: GpuHost, ollama: str, is_denied: Denied) -> list[Verdict]:
    """Return a verdict for each GPU of a host."""
    return [_verdict(host, gpu, ollama, is_denied) for gpu in host.gpus]


def _verdict(host: GpuHost, gpu: Gpu, ollama: str, is_denied: Denied) -> Verdict:
    found = _finding(host, gpu, ollama, is_denied)
    library = found.library or {"nvidia": "cuda", "amd": "rocm"}.get(gpu.vendor, "vulkan")
    reboot = found.state == "mismatch" or (found.state == "installed_not_loaded" and not _can_load(host))
    return Verdict(gpu, library, found.state, found.reason, reboot)


def _finding(host: GpuHost, gpu: Gpu, ollama: str, is_denied: Denied) -> _Finding:
    if gpu.driver == "vfio-pci":
        return _Finding("reserved_for_passthrough", "it is reserved for a virtual machine (vfio-pci)")
    if host.platform == "container" and gpu.nodes and not {node["path"] for node in host.nodes} & set(gpu.nodes):
        return _Finding("not_passed_in", "the container has none of its device nodes")
    found = _VENDORS[gpu.vendor](host, gpu, ollama)
    if found.state == "ok":
        closed = [node for node in gpu.nodes if is_denied(node)]
        if closed:
            return _Finding("no_permission", f"the server's account cannot open {', '.join(closed)}", found.library)
    return found


# NVIDIA


def _nvidia(host: GpuHost, gpu: Gpu, ollama: str) -> _Finding:
    if host.platform in ("wsl2", "jetson"):
        return _OK
    if gpu.generation == "Kepler or older":
        return _Finding(
            "unsupported_target",
            "it is of generation Kepler or older; Ollama requires Maxwell or newer",
        )
    if gpu.driver != "nvidia" or host.nvidia.loaded is None:
        return _not_loaded(host, gpu)
    found = _version(host, gpu, ollama)
    return found if found.state != "ok" else _completeness(host)


def _version(host: GpuHost, gpu: Gpu, ollama: str) -> _Finding:
    driver = host.nvidia
    if driver.installed and driver.installed != driver.loaded:
        return _Finding(
            "mismatch",
            f"the kernel has driver {driver.loaded} loaded, but {driver.installed} is installed: reload the module "
            "or reboot",
        )
    least = floor(ollama, gpu.compute_capability)
    if numbers(str(driver.loaded))[0] < least:
        card = f" with compute capability {gpu.compute_capability}" if least == FLOOR_OLD_CARDS else ""
        return _Finding(
            "driver_too_old", f"driver {driver.loaded} is too old: Ollama {ollama} requires {least} or newer{card}"
        )
    return _OK


def _completeness(host: GpuHost) -> _Finding:
    driver, nodes = host.nvidia, {node["path"] for node in host.nodes}
    if driver.installed is None:
        same = f" of exactly version {driver.loaded}, as the host's driver" if host.platform == "container" else ""
        return _Finding("no_user_space", f"libcuda.so.1 is not installed; install NVIDIA's libraries{same}")
    if not driver.uvm or "/dev/nvidia-uvm" not in nodes:
        what = "module nvidia-uvm is not loaded" if not driver.uvm else "/dev/nvidia-uvm is missing"
        return _Finding("uvm_missing", f"{what}: modprobe nvidia-uvm, then nvidia-modprobe -u -c 0")
    if driver.nvswitches and not driver.fabric_manager:
        return _Finding("no_fabric_manager", "this machine has NVSwitches, and nvidia-fabricmanager is not installed")
    return _OK


def _can_load(host: GpuHost) -> bool:
    """Return whether loading the module is sufficient; replacing nouveau while it has the console is not safe."""
    return host.kernel in host.nvidia.built_for and not host.nouveau and (not host.secure_boot or host.key_enrolled)


def _not_loaded(host: GpuHost, gpu: Gpu) -> _Finding:
    driver = host.nvidia
    if host.platform == "container":
        return _Finding("no_driver", "the container's host has no NVIDIA driver loaded for it")
    if host.kernel in driver.built_for:
        if host.nouveau:
            return _Finding("installed_not_loaded", "NVIDIA's driver is installed, but nouveau is in use: reboot")
        if host.secure_boot and not host.key_enrolled:
            return _Finding(
                "installed_not_loaded",
                "NVIDIA's driver is installed but not loaded; Secure Boot is on, and the firmware rejects keys that "
                f"are not enrolled: mokutil --import {host.mok_certificate}, reboot, and confirm at the console",
            )
        return _Finding("installed_not_loaded", "NVIDIA's driver is installed, but not loaded: modprobe nvidia")
    if driver.built_for:
        return _Finding(
            "installed_not_loaded",
            f"NVIDIA's driver is built for kernel {driver.built_for[-1]}, but {host.kernel} runs: reboot",
        )
    if driver.user_space or driver.dkms:
        return _Finding(
            "module_not_built",
            f"NVIDIA's driver is installed, but has no module for kernel {host.kernel}: install its headers, then "
            "dkms autoinstall",
        )
    bound = f"{gpu.driver} is bound to it" if gpu.driver else "no driver is bound to it"
    return _Finding("no_driver", f"NVIDIA's driver is not installed ({bound})")


# AMD and Intel


def _amd(host: GpuHost, gpu: Gpu, ollama: str) -> _Finding:
    if gpu.driver is None:
        return _Finding(
            "no_driver",
            "no driver is bound to it; usually its firmware is missing (Debian: firmware-amd-graphics): install it "
            "and reboot",
        )
    version = host.amdgpu_dkms
    if version and numbers(version) < OLDEST_AMDGPU:
        return _Finding(
            "driver_too_old",
            f"amdgpu {version} is too old: Ollama {ollama} contains ROCm 7, which requires 6.12 or newer",
        )
    if gpu.gfx_target is None or all(node["path"] != "/dev/kfd" for node in host.nodes):
        return _Finding("no_compute", "the driver provides no compute node for it (/sys/class/kfd, /dev/kfd)")
    if gpu.gfx_target not in cards.GFX_TARGETS:
        problem = f"ROCm target {gpu.gfx_target} is not supported by Ollama"
        return _vulkan(host, gpu, ollama, problem)
    if gpu.integrated and gpu.gfx_target != cards.GFX_INTEGRATED:
        return _Finding("integrated", f"it is an integrated GPU ({gpu.gfx_target}), which Ollama ignores by default")
    least = OLDEST_KERNEL.get(gpu.gfx_target[:5])
    if least and not version and ".el" not in host.kernel and numbers(host.kernel)[:2] < least:
        wanted = ".".join(str(number) for number in least)
        return _Finding(
            "driver_too_old",
            f"the amdgpu of kernel {host.kernel} is too old for {gpu.gfx_target}: {wanted} or newer",
        )
    return _OK


def _intel(host: GpuHost, gpu: Gpu, ollama: str) -> _Finding:
    if gpu.driver is None:
        return _Finding("no_driver", "no driver is bound to it")
    return _vulkan(host, gpu, ollama, "Ollama supports GPUs of Intel through Vulkan only")


def _vulkan(host: GpuHost, gpu: Gpu, ollama: str, why: str) -> _Finding:
    if gpu.integrated:
        return _Finding("integrated", "it is an integrated GPU, which Ollama ignores by default", "vulkan")
    if numbers(ollama) < FIRST_WITH_FLOORS:
        return _Finding("unsupported_target", f"{why}, and Ollama {ollama} does not support Vulkan", "vulkan")
    if not host.vulkan:
        install = "install libvulkan1 and mesa-vulkan-drivers"
        return _Finding("no_vulkan", f"{why}, and there is no Vulkan driver: {install}", "vulkan")
    return _Finding(library="vulkan")


_VENDORS: dict[str, t.Callable[[GpuHost, Gpu, str], _Finding]] = {
    "nvidia": _nvidia,
    "amd": _amd,
    "intel": _intel,
}


def reboot_reasons(verdicts: t.Sequence[Verdict]) -> list[str]:
    """Return the reasons why a reboot is required before GPUs can be used; empty if none is required."""
    return sorted({f"{verdict.label}: {verdict.reason}" for verdict in verdicts if verdict.reboot})


def prospective(verdicts: t.Sequence[Verdict]) -> list[Verdict]:
    """Return the GPUs that the server can use once its account is in the groups of their device nodes."""
    return [verdict for verdict in verdicts if verdict.usable or verdict.state == "no_permission"]


def variant(host: GpuHost, verdicts: t.Sequence[Verdict]) -> str:
    """Return the additional archive of Ollama for these GPUs: rocm, jetpack6, jetpack5, or none."""
    if host.platform == "jetson" and host.l4t:
        return {"36": "jetpack6", "35": "jetpack5"}.get(host.l4t.split(".")[0], "")
    return "rocm" if any(verdict.library == "rocm" for verdict in prospective(verdicts)) else ""


def summary(verdicts: t.Sequence[Verdict]) -> str:
    """Return the verdicts in one human-readable line."""
    if not verdicts:
        return "no GPU"
    return "; ".join(
        f"{verdict.label}{f' at {verdict.gpu.pci_address}' if verdict.gpu.pci_address else ''}: "
        + (f"usable ({verdict.library})" if verdict.usable else f"not usable: {verdict.reason}")
        for verdict in verdicts
    )
