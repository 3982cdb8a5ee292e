# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPUs a host has, what drives them, and whether Ollama can use them: read from sysfs and procfs.

`look` reads the host and changes nothing; what it says about each GPU is decided by `_gpu_judge`.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import json
import os
import platform
import pwd
import re
import shutil
import stat
import subprocess
import typing as t
from dataclasses import dataclass, field

from . import cards

VENDORS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}
# Display controllers, and processing accelerators such as AMD's MI300. A card's audio function is class 0403.
_GPU_CLASSES = (0x0300, 0x0302, 0x0380, 0x1200)
_NVSWITCH_CLASS = 0x0680
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ENROLLED_KEYS = "sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
_DKMS_KEY = "var/lib/dkms/mok.pub"
_LIBRARIES = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/wsl/lib")
_MODULE_FOLDERS = ("updates/dkms", "updates", "extra", "kernel/drivers/video", "kernel/nvidia-*", "weak-updates/*")
_SMI_QUERY = "--query-gpu=index,uuid,name,pci.bus_id,driver_version,memory.total,compute_cap"
_NODES = ("dev/nvidia*", "dev/kfd", "dev/dri/*", "dev/dxg", "dev/nvhost-gpu", "dev/nvmap")
_VERSION = re.compile(r"\.so\.(\d+\.\d+(?:\.\d+)?)\Z")
_LOADED = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")

Run = t.Callable[[t.Sequence[str]], "tuple[int, str] | None"]
"""Runs a program; returns its status and output, or None where there is no such program."""


@dataclass
class Gpu:
    """One GPU; what `_gpu_judge` decides comes last."""

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
    nodes: list[str] = field(default_factory=list)
    library: str | None = None
    state: str = "unknown"
    usable: bool = False
    reason: str | None = None
    reboot: bool = False


@dataclass
class Nvidia:
    """NVIDIA's driver: what the kernel has loaded and what lies on disk."""

    loaded: str | None = None
    installed: str | None = None
    """The version of libcuda.so.1, which must equal the loaded one."""
    modules: str | None = None
    """open or proprietary, of what is loaded."""
    uvm: bool = False
    built_for: list[str] = field(default_factory=list)
    """The kernels that have a module on disk."""
    dkms: list[str] = field(default_factory=list)
    """As `dkms status` says it, for example `nvidia/580.95.05, 6.8.0-88-generic, x86_64: installed`."""
    user_space: bool = False
    nvswitches: int = 0
    fabric_manager: bool = False
    installer: bool = False
    """Installed by NVIDIA's .run file, past the package manager."""


@dataclass
class Host:
    """What there is."""

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
    nouveau: bool
    nvidia: Nvidia
    amdgpu_dkms: str | None
    vulkan: bool
    gpus: list[Gpu]
    nodes: list[dict[str, str]]


@dataclass(frozen=True)
class Account:
    """Who is to open the device nodes."""

    name: str
    uid: int
    gids: frozenset[int]

    def may_open(self, mode: int, uid: int, gid: int) -> bool:
        """Return whether it can read and write a file of that mode and owner."""
        shift = 6 if uid == self.uid else 3 if gid in self.gids else 0
        return self.uid == 0 or (mode >> shift) & 6 == 6


def account(user: str | None) -> Account | None:
    """Return a user with its groups; None for nobody known; without a name whoever runs this."""
    if user is None:
        return Account(str(os.geteuid()), os.geteuid(), frozenset([*os.getgroups(), os.getegid()]))
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return Account(user, entry.pw_uid, frozenset(os.getgrouplist(user, entry.pw_gid)))


def run_program(argv: t.Sequence[str]) -> tuple[int, str] | None:
    """Run a program of the host in the C locale; a dead GPU can make nvidia-smi hang."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/wsl/lib"
    program = shutil.which(argv[0], path=path)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, LC_ALL="C", PATH=path),
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return (124, f"{argv[0]} did not answer within 30 s")
    return (done.returncode, done.stdout.decode("utf-8", "replace"))


def no_program(argv: t.Sequence[str]) -> None:
    """Run nothing: for a tree that is not this host's own."""


class Tree:
    """A host's file system below its root. What cannot be read is not there."""

    def __init__(self, root: str) -> None:
        self.root = root

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def bytes(self, path: str) -> bytes:
        try:
            with open(self.at(path), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def text(self, path: str) -> str:
        return self.bytes(path).decode("utf-8", "replace").replace("\0", "\n").strip()

    def has(self, path: str) -> bool:
        return os.path.exists(self.at(path))

    def find(self, pattern: str) -> list[str]:
        """Return what matches, below the root."""
        return sorted(os.path.relpath(path, self.root) for path in glob.glob(self.at(pattern)))

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []


def look(root: str = "/", run: Run = no_program, machine: str | None = None) -> Host:
    """Read what there is.

    :param root: where the host's file system begins; anything but / is a copy of some host's files.
    :param run: runs nvidia-smi and rocm-smi, where a GPU was found.
    """
    tree = Tree(root)
    release = dict(line.split("=", 1) for line in tree.text("etc/os-release").splitlines() if "=" in line)
    release = {key: value.strip("\"'") for key, value in release.items()}
    kernel = tree.text("proc/sys/kernel/osrelease")
    where, container = _platform(tree, kernel)
    pci = dict(_pci(tree))
    host = Host(
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
        key_enrolled=_key_enrolled(tree),
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
    _ask_programs(host, run)
    _name(host, tree)
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


def _key_enrolled(tree: Tree) -> bool:
    """Return whether the firmware trusts the key that DKMS signs with; the list holds certificates as they are."""
    key = tree.bytes(_DKMS_KEY)
    return bool(key) and key in tree.bytes(_ENROLLED_KEYS)


def _pci(tree: Tree) -> t.Iterator[tuple[str, tuple[int, int, int, str | None]]]:
    """Address -> vendor, device, class and driver of each PCI device."""
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
    gpu.generation, gpu.compute_capability, gpu.library = card.generation, card.compute_capability, "cuda"
    information = tree.text(f"proc/driver/nvidia/gpus/{gpu.pci_address}/information")
    fields = {key.strip(): value.strip() for key, _colon, value in (x.partition(":") for x in information.splitlines())}
    gpu.name = fields.get("Model")
    gpu.nodes = ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    if "Device Minor" in fields:
        gpu.nodes.append(f"/dev/nvidia{fields['Device Minor']}")


def _describe_amd(tree: Tree, gpu: Gpu, folder: str, node: t.Mapping[str, int]) -> None:
    vram, shared = (tree.text(f"{folder}/mem_info_{what}_total") for what in ("vram", "gtt"))
    sizes = [int(size) if size.isdigit() else 0 for size in (vram, shared)]
    # The rule by which Ollama itself tells them apart.
    discrete = any(tree.has(f"{folder}/{name}") for name in ("mem_info_vram_vendor", "board_info"))
    gpu.integrated = not discrete and sizes[0] <= 4 << 30 and sizes[1] >= max(8 << 30, 4 * sizes[0])
    gpu.vram = sizes[1 if gpu.integrated else 0] or None
    gpu.library = "rocm"
    gpu.nodes = ["/dev/kfd", *gpu.nodes]
    target = node.get("gfx_target_version")
    if target:
        gpu.gfx_target = f"gfx{target // 10000}{target // 100 % 100:x}{target % 100:x}"


def _kfd(tree: Tree) -> dict[str, dict[str, int]]:
    """PCI address -> properties of the compute driver's node for that GPU; a masked one cannot be read."""
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
    """Yield what `dkms status` would say, which takes it more than a second."""
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
    """Return the path of NVIDIA's module for a kernel; Debian calls it nvidia-current."""
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


def denied(root: str, who: Account, path: str) -> bool:
    """Return whether a device node is there and that account cannot open it."""
    try:
        status = os.stat(os.path.join(root, path.lstrip("/")))
    except OSError:
        return False
    return not who.may_open(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _add_virtual(host: Host, tree: Tree) -> None:
    """GPUs that no PCI device stands for."""
    if host.platform == "jetson":
        name = tree.text("proc/device-tree/model") or None
        host.gpus.append(
            Gpu("nvidia", name=name, integrated=True, library="cuda", nodes=["/dev/nvhost-gpu", "/dev/nvmap"])
        )
    elif host.platform == "wsl2" and tree.has("usr/lib/wsl/lib/libcuda.so.1"):
        host.gpus.append(Gpu("nvidia", driver="dxgkrnl", library="cuda", nodes=["/dev/dxg"]))


def _ask_programs(host: Host, run: Run) -> None:
    """Add what only the vendors' programs know; without a GPU none is started."""
    vendors = {gpu.vendor for gpu in host.gpus}
    if "nvidia" in vendors and (host.nvidia.loaded or host.platform == "wsl2"):
        answer = run(["nvidia-smi", _SMI_QUERY, "--format=csv,noheader,nounits"])
        _take_smi(host, answer[1] if answer and answer[0] == 0 else "")
    if "amd" in vendors:
        answer = run(["rocm-smi", "--showproductname", "--showbus", "--json"])
        with contextlib.suppress(ValueError, AttributeError):
            for card in json.loads(answer[1] if answer and answer[0] == 0 else "{}").values():
                for gpu in host.gpus:
                    if gpu.pci_address == str(card.get("PCI Bus", "")).lower():
                        gpu.name = card.get("Card Series") or card.get("Card series")


def _take_smi(host: Host, output: str) -> None:
    for line in output.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != 7:
            continue
        _index, _uuid, name, place, _driver, mebibytes, capability = values
        # 00000000:01:00.0 with a domain of eight digits, in capitals
        address = place.lower()[-12:]
        for gpu in host.gpus:
            if gpu.vendor == "nvidia" and gpu.pci_address in (address, None):
                gpu.name, gpu.compute_capability = name, capability
                gpu.vram = int(mebibytes) << 20 if mebibytes.isdigit() else None


def _name(host: Host, tree: Tree) -> None:
    """Look names up in the PCI database, where it is installed and somebody needs one."""
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
