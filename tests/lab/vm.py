# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are virtual machines, for what a container cannot do: reboot, kernel modules, disks, power cuts.

A machine writes to a copy of the cached image. It reaches the depot through the user network of QEMU; its SSH server is
forwarded to a loopback address of its own, because the collection takes 127.0.0.1 for the controller. KVM is used only
where a kernel boots in it.

QEMU ends at each reset and is started again: an emulated machine writes slowly to memory that has held code of the
previous boot, and a boot would take many minutes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from . import CACHE, LabError, engine, say, vm_image
from .access import Endpoint, File
from .releases import HERE

MEMORY_MIB = 1024
EXTRA_DISK_MIB = 256
# The partition of vm_image.boot_sector, by the signature of the disk.
PARTITION = f"{int.from_bytes(vm_image.SIGNATURE, 'little'):08x}-01"


class Kind(NamedTuple):
    """A kind of machine."""

    arch: str = "amd64"
    security: str = "apparmor"
    """The security module of its kernel."""


class Emulator(NamedTuple):
    """The program of an architecture, its Debian package, and what it emulates."""

    program: str
    package: str
    machine: str
    cpu: str
    disk: str
    """The device of the disk, whose driver the initramfs or the kernel has."""


KINDS = {"apparmor": Kind(), "selinux": Kind(security="selinux"), "arm64": Kind("arm64")}
EMULATORS = {
    "amd64": Emulator("qemu-system-x86_64", "qemu-system-x86", "q35", "qemu64", "virtio-blk-pci"),
    "arm64": Emulator(
        "qemu-system-aarch64", "qemu-system-arm", "virt,gic-version=max", "cortex-a72", "nvme,serial=lab"
    ),
}
# Seconds until systemd has started everything. An emulated machine on a loaded host is slow.
BOOT = 900
# Starts QEMU until it fails; `unplugged` is the file that leaves the disk of the models out.
LOOP = """
trap 'kill "$child"; exit' TERM
while :; do
  models='-device virtio-blk-pci,id=models,drive=models,bus=rp1'
  [ ! -e unplugged ] || models=
  "$@" $models &
  child=$!
  wait "$child" || exit
done
"""


def accelerator(image: Path, arch: str) -> str:
    """Return kvm if a kernel reaches its first panic in it, otherwise tcg."""
    if arch != HERE or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = CACHE / "vm-accelerator"
    if not known.exists():
        known.write_text("kvm" if kvm_boots(image, arch) else "tcg")
    return known.read_text()


def kvm_boots(image: Path, arch: str, seconds: float = 20) -> bool:
    """Boot the image in KVM and wait for the first line of systemd; a guest may crash although /dev/kvm opens."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        console = Path(folder) / "console"
        command = [*computer(image, Kind(arch), "kvm"), *_disk(image / "disk", arch, "on"), *_console(console)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < deadline:
                if console.exists() and b"systemd[1]:" in console.read_bytes():
                    return True
                time.sleep(0.2)
            return False
        finally:
            process.kill()
            process.wait()


def computer(image: Path, kind: Kind, accel: str) -> list[str]:
    """QEMU with a computer that boots the image; it ends where the computer would be reset."""
    emulator = EMULATORS[kind.arch]
    options = {
        "machine": emulator.machine,
        "accel": accel,
        "cpu": "host" if accel == "kvm" else emulator.cpu,
        "display": "none",
        "m": str(MEMORY_MIB),
    }
    if kind.arch == "amd64":
        # GRUB reads it and writes it to the command line of the kernel.
        options["smbios"] = f"type=1,family={kind.security}"
    else:
        options["kernel"] = str(image / "vmlinuz")
        options["append"] = (
            f"root=PARTUUID={PARTITION} ro console=ttyAMA0 panic=10 mitigations=off security={kind.security}"
        )
    words = [word for name, value in options.items() for word in (f"-{name}", value)]
    return [emulator.program, "-nodefaults", "-no-user-config", "-no-reboot", *words]


def _disk(path: Path, arch: str, snapshot: str) -> list[str]:
    drive = f"if=none,id=root,file={path},format=raw,snapshot={snapshot},cache=unsafe"
    return ["-drive", drive, "-device", f"{EMULATORS[arch].disk},drive=root"]


def _console(path: Path) -> list[str]:
    return ["-chardev", f"file,id=console,path={path},append=on", "-serial", "chardev:console"]


@dataclass
class Machine:
    """One virtual machine of a lab; its files are in a directory of the lab."""

    name: str
    dir: Path

    @property
    def state(self) -> dict[str, Any]:
        """The process and the port of the machine; empty if it does not run."""
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((self.dir / "state.json").read_text())
            if engine.start_time(state["pid"]) == state["start"]:
                return dict(state)
        return {}

    def start(self, files: Mapping[str, File], kind: Kind) -> Endpoint:
        """Start the machine unless it runs; return where its SSH server listens.

        :param files: name -> content, mode and owner; written at each boot.
        """
        if self.state:
            return endpoint(self.state["port"])
        with engine.lock():
            emulator = EMULATORS[kind.arch]
            engine.ensure_tools({emulator.program: emulator.package, "mke2fs": "e2fsprogs"})
            image = vm_image.ensure(kind.arch)
            accel = accelerator(image, kind.arch)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        (self.dir / "tmpfiles").write_text(tmpfiles(self.name, files))
        disk = self.dir / "disk.img"
        subprocess.run(["cp", "--sparse=always", image / "disk", disk], check=True)
        extra = self.dir / "models.img"
        subprocess.run(["truncate", "-s", f"{EXTRA_DISK_MIB}M", extra], check=True)
        mke2fs = shutil.which("mke2fs", path=engine.SEARCH) or "mke2fs"
        subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-L", "lab-models", extra], check=True)
        port = free_port()
        command = [*computer(image, kind, accel), *_disk(disk, kind.arch, "off"), *self._devices(extra, port)]
        with (self.dir / "qemu.log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", LOOP, "sh", *command],
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        state = {"pid": process.pid, "start": engine.start_time(process.pid), "port": port, "accelerator": accel}
        (self.dir / "state.json").write_text(json.dumps(state))
        say(f"vm: {self.name} starts with {accel}, process {process.pid}")
        return endpoint(port)

    def _devices(self, extra: Path, port: int) -> list[str]:
        options = {
            "smp": "2",
            "fw_cfg": f"name=opt/io.systemd.credentials/tmpfiles.extra,file={self.dir / 'tmpfiles'}",
            "netdev": f"user,id=net,hostfwd=tcp:{endpoint(port).address}:{port}-:22",
            # The file system of models: a disk that can be removed while the machine runs.
            "blockdev": f"driver=file,node-name=models,filename={extra},cache.no-flush=on",
            "qmp": "unix:qmp,server=on,wait=off",
        }
        devices = ("virtio-rng-pci", "virtio-net-pci,netdev=net,romfile=", "pcie-root-port,id=rp1,chassis=1")
        return [
            *_console(self.dir / "console.log"),
            *(word for name, value in options.items() for word in (f"-{name}", value)),
            *(word for device in devices for word in ("-device", device)),
        ]

    def wait(self, ssh_config: Path) -> None:
        """Wait until systemd has started everything, and ops can log in and use sudo."""
        login = ["ssh", "-F", str(ssh_config), "-o", "ConnectTimeout=10", "-o", "BatchMode=yes", self.name]
        deadline = time.monotonic() + BOOT
        seen = "no SSH server"
        while time.monotonic() < deadline:
            if not self.state:
                raise LabError(f"{self.name} ended: {self.last_lines('qemu.log')}")
            # Bounded, because the forwarded port accepts connections before there is a server.
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    [*login, "sudo -n systemctl is-system-running --wait"],
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    timeout=60,
                    check=False,
                )
                seen = done.stdout.strip() or done.stderr.strip() or seen
                if seen == "running":
                    return
                if seen == "degraded":
                    units = subprocess.run(
                        [*login, "systemctl --failed --plain --no-legend"],
                        capture_output=True,
                        text=True,
                        stdin=subprocess.DEVNULL,
                        timeout=60,
                        check=False,
                    ).stdout
                    raise LabError(f"{self.name}: units that failed at boot: {units.strip()}")
            time.sleep(0.5)
        raise LabError(f"{self.name} did not boot within {BOOT} s ({seen}): {self.last_lines('console.log')}")

    def stop(self) -> None:
        """End the process of the machine, and only that."""
        state = self.state
        if not state:
            return
        os.kill(state["pid"], signal.SIGTERM)
        deadline = time.monotonic() + 10
        while self.state and time.monotonic() < deadline:
            time.sleep(0.1)
        if self.state:
            os.killpg(state["pid"], signal.SIGKILL)

    def remove(self) -> None:
        """End the machine and remove its files."""
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def reset(self) -> None:
        """Cut the power: what the guest has not written to its disk is lost."""
        self.qmp("quit")

    def unplug(self) -> None:
        """Remove the disk of the models, also for the next boots."""
        (self.dir / "unplugged").touch()
        self.qmp("device_del", id="models")

    def plug(self) -> None:
        """Insert the disk of the models again."""
        (self.dir / "unplugged").unlink(missing_ok=True)
        self.qmp("device_add", driver="virtio-blk-pci", id="models", drive="models", bus="rp1")

    def qmp(self, command: str, **arguments: object) -> Any:
        """Run one command of QEMU's monitor."""
        folder = os.open(self.dir, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                # The path of a socket is limited to 107 bytes, that of the lab is not.
                connection.connect(f"/proc/self/fd/{folder}/qmp")
                stream = connection.makefile("rw")
                stream.readline()
                for name, values in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": name, "arguments": values}) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = {}
                    while not answer.keys() & {"return", "error"}:
                        answer = json.loads(stream.readline())
                if "error" in answer:
                    raise LabError(f"{self.name}: {command}: {answer['error']['desc']}")
                return answer["return"]
        except OSError as error:
            raise LabError(f"{self.name}: the monitor of the VM does not answer: {error}") from error
        finally:
            os.close(folder)

    def last_lines(self, name: str) -> str:
        text = (self.dir / name).read_text(errors="replace") if (self.dir / name).exists() else ""
        return " / ".join(text.strip().splitlines()[-3:]) or f"{name} is empty"


def tmpfiles(name: str, files: Mapping[str, File]) -> str:
    """Return the lines from which systemd-tmpfiles writes the files of a machine at boot."""
    lines = [f"f+ /etc/hostname 0644 root root - {name}"]
    for path, (content, mode, owner) in files.items():
        if owner:
            lines.append(f"d /{Path(path).parent} 0700 {owner} {owner}")
        lines.append(f"f+~ /{path} {mode:04o} {owner} {owner} - {base64.b64encode(content).decode()}")
    return "".join(f"{line}\n" for line in lines)


def endpoint(port: int) -> Endpoint:
    """Return an address of this host for each port, because SSH tells hosts apart by their addresses."""
    return Endpoint(f"127.86.{port >> 8}.{port & 255}", port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machines(folder: Path) -> list[Machine]:
    """The virtual machines of a lab, by their directories."""
    return [Machine(path.name, path) for path in sorted(folder.glob("vm/*")) if path.is_dir()]
