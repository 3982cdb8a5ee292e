# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPUs of a host and their drivers, as reported by sysfs, procfs and the vendors' programs.

`gather` reads the host and changes nothing. `support` decides which GPUs a version of Ollama can use.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import json
import os
import platform
import pwd
import re
import stat
import typing as t
from dataclasses import dataclass, field

from . import cards
from .tree import Run, Tree, no_program

VENDORS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}
# Display controllers, and processing accelerators such as AMD's MI300. A card's audio function is class 0403.
_GPU_CLASSES = (0x0300, 0x0302, 0x0380, 0x1200)
_NVSWITCH_CLASS = 0x0680
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# A long list of machine owner keys continues in MokListRT1 and so on.
_ENROLLED_KEYS = "sys/firmware/efi/efivars/MokListRT*-605dab50-e046-4300-abb6-3dd810dd8b23"
_DKMS_SETTINGS = ("etc/dkms/framework.conf", "etc/dkms/framework.conf.d/*.conf")
_DKMS_CERTIFICATE = "/var/lib/dkms/mok.pub"
# Ubuntu's DKMS signs with the machine owner key of its package shim-signed.
_SHIM_CERTIFICATE = "/var/lib/shim-signed/mok/MOK.der"
_LIBRARIES = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/wsl/lib")
_MODULE_FOLDERS = ("updates/dkms", "updates", "extra", "kernel/drivers/video", "kernel/nvidia-*", "weak-updates/*")
_SMI_QUERY = "--query-gpu=index,uuid,name,pci.bus_id,driver_version,memory.total,compute_cap"
_NODES = ("dev/nvidia*", "dev/kfd", "dev/dri/*", "dev/dxg", "dev/nvhost-gpu", "dev/nvmap")
_VERSION = re.compile(r"\.so\.(\d+\.\d+(?:\.\d+)?)\Z")
_LOADED = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")


@dataclass
class Gpu:
    """One GPU."""

    vendor: str
    pci_address: str | None = None
    pci_id: str | None = None
    name: str | None = None
    driver: str | None = None
    integrated: bool = False
    generation: str | None = None
    compute_capability: str | None = None
    gfx_target: str | None = None
    vram: int | None = None
    """Bytes; for an integrated GPU, the shared memory that it can use."""
    nodes: list[str] = field(default_factory=list)
    """The paths of the device nodes that the server opens."""


@dataclass
class Nvidia:
    """NVIDIA's driver: what the kernel has loaded and what is on disk."""

    loaded: str | None = None
    installed: str | None = None
    """The version of libcuda.so.1, which must equal that of the loaded module."""
    modules: str | None = None
    """The kind of the loaded modules, open or proprietary."""
    uvm: bool = False
    built_for: list[str] = field(default_factory=list)
    """The kernels that have a module on disk."""
    dkms: list[str] = field(default_factory=list)
    """The lines of `dkms status`, for example `nvidia/580.95.05, 6.8.0-88-generic, x86_64: installed`."""
    user_space: bool = False
    nvswitches: int = 0
    fabric_manager: bool = False
    installer: bool = False
    """Whether NVIDIA's .run file has installed the driver, without the package manager."""


@dataclass
class GpuHost:
    """A host with its GPUs."""

    kernel: str
    machine: str
    os_id: str
    os_like: tuple[str, ...]
    os_version: str
    codename: str
    platform: str
    """host, container, wsl2, jetson or dgx."""
    container: str | None
    l4t: str | None
    secure_boot: bool
    key_enrolled: bool
    mok_certificate: str
    """The path of the certificate with which DKMS signs modules."""
    nouveau: bool
    nvidia: Nvidia
    amdgpu_dkms: str | None
    vulkan: bool
    gpus: list[Gpu]
    nodes: list[dict[str, str]]


def gather(root: str = "/", run: Run = no_program, machine: str | None = None) -> GpuHost:
    """Read the GPUs of a host.

    :param root: the root of the host's file system, or of a copy of a host's files.
    :param run: runs nvidia-smi and rocm-smi if a GPU is found.
    :param machine: the architecture, such as x86_64; that of this host if None.
    """
    tree = Tree(root)
    release = dict(line.split("=", 1) for line in tree.text("etc/os-release").splitlines() if "=" in line)
    release = {key: value.strip("\"'") for key, value in release.items()}
    kernel = tree.text("proc/sys/kernel/osrelease")
    where, container = _platform(tree, kernel)
    pci = dict(_pci(tree))
    certificate = _mok_certificate(tree, [release.get("ID", ""), *release.get("ID_LIKE", "").split()])
    host = GpuHost(
        kernel=kernel,
        machine=machine or platform.machine(),
        os_id=release.get("ID", "unknown"),
        os_like=tuple(release.get("ID_LIKE", "").split()),
        os_version=release.get("VERSION_ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        platform=where,
        container=container,
        l4t=_l4t(tree),
        secure_boot=tree.bytes(_SECURE_BOOT)[4:5] == b"\1",
        key_enrolled=_is_enrolled(tree, certificate),
        mok_certificate=certificate,
        nouveau=tree.has("sys/module/nouveau"),
        nvidia=_nvidia(tree),
        amdgpu_dkms=tree.text("sys/module/amdgpu/version") or None,
        vulkan=any(tree.find(f"{folder}/libvulkan.so.1") for folder in _LIBRARIES)
        and bool(tree.find("usr/share/vulkan/icd.d/*.json")),
        gpus=_gpus(tree, pci),
        nodes=list(_nodes(tree)),
    )
    host.nvidia.nvswitches = sum(1 for vendor, _id, kind, _driver in pci.values() if (vendor, kind) == _NVSWITCH)
    _add_virtual(host, tree)
    _run_programs(host, run)
    _add_names(host, tree)
    return host


_NVSWITCH = (0x10DE, _NVSWITCH_CLASS)


def _platform(tree: Tree, kernel: str) -> tuple[str, str | None]:
    container = tree.text("run/systemd/container") or ("docker" if tree.has(".dockerenv") else None)
    if tree.has("dev/dxg") or "microsoft" in kernel.lower():
        return "wsl2", container
    if container:
        return "container", container
    if tree.has("etc/nv_tegra_release"):
        return "jetson", None
    return ("dgx" if tree.has("etc/dgx-release") else "host"), None


def _l4t(tree: Tree) -> str | None:
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", tree.text("etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def _mok_certificate(tree: Tree, systems: t.Sequence[str]) -> str:
    """Return the path of the certificate with which DKMS signs: as configured, or the default of the distribution."""
    settings = "\n".join(tree.text(path) for pattern in _DKMS_SETTINGS for path in tree.find(pattern))
    configured = re.findall(r"(?m)^\s*mok_certificate=[\"']?(/[^\"'\s$]+)", settings)
    if configured:
        return str(configured[-1])
    if "ubuntu" in systems and (tree.has(_SHIM_CERTIFICATE) or not tree.has(_DKMS_CERTIFICATE)):
        return _SHIM_CERTIFICATE
    return _DKMS_CERTIFICATE


def _is_enrolled(tree: Tree, certificate: str) -> bool:
    """Return whether the firmware trusts a certificate; its list contains certificates in binary form."""
    content = tree.bytes(certificate)
    if content.startswith(b"-----BEGIN CERTIFICATE-----"):
        try:
            content = base64.b64decode(b"".join(content.split(b"-----")[2].split()))
        except ValueError:
            return False
    return bool(content) and any(content in tree.bytes(path) for path in tree.find(_ENROLLED_KEYS))


def _pci(tree: Tree) -> t.Iterator[tuple[str, tuple[int, int, int, str | None]]]:
    """Yield the address of each PCI device with its vendor, device, class and driver."""
    for address in tree.names("sys/bus/pci/devices"):
        lines = tree.text(f"sys/bus/pci/devices/{address}/uevent").splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        with contextlib.suppress(KeyError, ValueError):
            vendor, device = (int(part, 16) for part in fields["PCI_ID"].split(":"))
            yield address, (vendor, device, int(fields["PCI_CLASS"], 16) >> 8, fields.get("DRIVER"))


def _gpus(tree: Tree, pci: t.Mapping[str, tuple[int, int, int, str | None]]) -> list[Gpu]:
    nodes = _kfd(tree)
    found = []
    for address, (vendor, device, kind, driver) in pci.items():
        if vendor not in VENDORS or kind not in _GPU_CLASSES:
            continue
        gpu = Gpu(VENDORS[vendor], address, f"{vendor:04x}:{device:04x}", driver=driver)
        folder = f"sys/bus/pci/devices/{address}"
        gpu.nodes = [f"/dev/dri/{name}" for name in tree.names(f"{folder}/drm") if name.startswith("renderD")]
        if gpu.vendor == "nvidia":
            _describe_nvidia(tree, gpu, device)
        elif gpu.vendor == "amd":
            _describe_amd(tree, gpu, folder, nodes.get(address, {}))
        else:
            gpu.integrated = address.startswith("0000:00:")
        found.append(gpu)
    return found


def _describe_nvidia(tree: Tree, gpu: Gpu, device: int) -> None:
    card = cards.nvidia(device)
    gpu.generation, gpu.compute_capability = card.generation, card.compute_capability
    information = tree.text(f"proc/driver/nvidia/gpus/{gpu.pci_address}/information")
    fields = {key.strip(): value.strip() for key, _colon, value in (x.partition(":") for x in information.splitlines())}
    gpu.name = fields.get("Model")
    gpu.nodes = ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    if "Device Minor" in fields:
        gpu.nodes.append(f"/dev/nvidia{fields['Device Minor']}")


def _describe_amd(tree: Tree, gpu: Gpu, folder: str, node: t.Mapping[str, int]) -> None:
    vram, shared = (tree.text(f"{folder}/mem_info_{what}_total") for what in ("vram", "gtt"))
    sizes = [int(size) if size.isdigit() else 0 for size in (vram, shared)]
    # Ollama distinguishes integrated GPUs by the same rule.
    discrete = any(tree.has(f"{folder}/{name}") for name in ("mem_info_vram_vendor", "board_info"))
    gpu.integrated = not discrete and sizes[0] <= 4 << 30 and sizes[1] >= max(8 << 30, 4 * sizes[0])
    gpu.vram = sizes[1 if gpu.integrated else 0] or None
    gpu.nodes = ["/dev/kfd", *gpu.nodes]
    target = node.get("gfx_target_version")
    if target:
        gpu.gfx_target = f"gfx{target // 10000}{target // 100 % 100:x}{target % 100:x}"


def _kfd(tree: Tree) -> dict[str, dict[str, int]]:
    """Return the properties of the compute node of each GPU by PCI address; masked nodes cannot be read."""
    nodes = {}
    for path in tree.find("sys/class/kfd/kfd/topology/nodes/*/properties"):
        pairs = (line.split() for line in tree.text(path).splitlines())
        node = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
        if node.get("vendor_id") and node.get("drm_render_minor"):
            place = node.get("location_id", 0)
            address = f"{node.get('domain', 0):04x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
            nodes[address] = node
    return nodes


def _nvidia(tree: Tree) -> Nvidia:
    proc = tree.text("proc/driver/nvidia/version")
    loaded = _LOADED.search(proc)
    libraries = [path for folder in _LIBRARIES for path in tree.find(f"{folder}/libcuda.so.1")]
    versions = [_VERSION.search(os.path.realpath(tree.at(path))) for path in libraries]
    return Nvidia(
        loaded=tree.text("sys/module/nvidia/version") or (loaded[1] if loaded else None),
        installed=next((version[1] for version in versions if version), None),
        modules=("open" if "Open Kernel Module" in proc else "proprietary") if proc else None,
        uvm=tree.has("sys/module/nvidia_uvm"),
        built_for=[kernel for kernel in tree.names("lib/modules") if module_path(tree.root, kernel)],
        dkms=list(_dkms(tree)),
        user_space=bool(libraries) or tree.has("usr/bin/nvidia-smi"),
        fabric_manager=tree.has("usr/bin/nv-fabricmanager"),
        installer=tree.has("usr/bin/nvidia-uninstall"),
    )


def _dkms(tree: Tree) -> t.Iterator[str]:
    """Yield the lines that `dkms status` prints; the program itself takes more than a second."""
    for path in tree.find("var/lib/dkms/nvidia*/[0-9]*"):
        name, version = path.split("/")[3:]
        built = tree.find(f"{path}/*/*/module")
        if not built:
            yield f"{name}/{version}: added"
        for module in built:
            kernel, machine = module.split("/")[5:7]
            link = tree.at(f"var/lib/dkms/{name}/kernel-{kernel}-{machine}")
            state = "installed" if os.path.islink(link) and os.readlink(link).startswith(f"{version}/") else "built"
            yield f"{name}/{version}, {kernel}, {machine}: {state}"


def module_path(root: str, kernel: str) -> str | None:
    """Return the path of NVIDIA's module for a kernel, or None; in Debian its name is nvidia-current."""
    tree = Tree(root)
    for folder in _MODULE_FOLDERS:
        for name in ("nvidia", "nvidia-current"):
            for path in tree.find(f"lib/modules/{kernel}/{folder}/{name}.ko*"):
                return path
    return None


def _nodes(tree: Tree) -> t.Iterator[dict[str, str]]:
    for path in (path for pattern in _NODES for path in tree.find(pattern)):
        status = os.stat(tree.at(path))
        if not stat.S_ISDIR(status.st_mode):
            owner, group = str(status.st_uid), str(status.st_gid)
            with contextlib.suppress(KeyError):
                owner = pwd.getpwuid(status.st_uid).pw_name
                group = grp.getgrgid(status.st_gid).gr_name
            yield {
                "path": f"/{path}",
                "owner": owner,
                "group": group,
                "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            }


def _add_virtual(host: GpuHost, tree: Tree) -> None:
    """Add GPUs that are not PCI devices."""
    if host.platform == "jetson":
        name = tree.text("proc/device-tree/model") or None
        host.gpus.append(Gpu("nvidia", name=name, integrated=True, nodes=["/dev/nvhost-gpu", "/dev/nvmap"]))
    elif host.platform == "wsl2" and tree.has("usr/lib/wsl/lib/libcuda.so.1"):
        host.gpus.append(Gpu("nvidia", driver="dxgkrnl", nodes=["/dev/dxg"]))


def _run_programs(host: GpuHost, run: Run) -> None:
    """Add details that only the vendors' programs report; without a GPU no program is started."""
    vendors = {gpu.vendor for gpu in host.gpus}
    if "nvidia" in vendors and (host.nvidia.loaded or host.platform == "wsl2"):
        answer = run(["nvidia-smi", _SMI_QUERY, "--format=csv,noheader,nounits"])
        _parse_smi(host, answer[1] if answer and answer[0] == 0 else "")
    if "amd" in vendors:
        answer = run(["rocm-smi", "--showproductname", "--showbus", "--json"])
        with contextlib.suppress(ValueError, AttributeError):
            for card in json.loads(answer[1] if answer and answer[0] == 0 else "{}").values():
                for gpu in host.gpus:
                    if gpu.pci_address == str(card.get("PCI Bus", "")).lower():
                        gpu.name = card.get("Card Series") or card.get("Card series")


def _parse_smi(host: GpuHost, output: str) -> None:
    for line in output.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != 7:
            continue
        _index, _uuid, name, place, _driver, mebibytes, capability = values
        # nvidia-smi prints 00000000:01:00.0: a domain of eight digits, in upper case.
        address = place.lower()[-12:]
        for gpu in host.gpus:
            if gpu.vendor == "nvidia" and gpu.pci_address in (address, None):
                gpu.name, gpu.compute_capability = name, capability
                gpu.vram = int(mebibytes) << 20 if mebibytes.isdigit() else None


def _add_names(host: GpuHost, tree: Tree) -> None:
    """Add missing names from the database of PCI IDs, if it is installed."""
    nameless = {gpu.pci_id: gpu for gpu in host.gpus if not gpu.name and gpu.pci_id}
    path = next((p for p in ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids") if tree.has(p)), None)
    if not nameless or path is None:
        return
    vendor = ""
    with open(tree.at(path), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith(("\t", "#")):
                vendor = line[:4]
            elif line.startswith("\t") and not line.startswith("\t\t"):
                gpu = nameless.get(f"{vendor}:{line[1:5]}")
                if gpu:
                    gpu.name = line[5:].strip()
