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
from typing import Any

from . import CACHE, LabError, engine, say, vm_image
from .access import Endpoint, File

QEMU = "qemu-system-x86_64"
TOOLS = {QEMU: "qemu-system-x86", "mke2fs": "e2fsprogs"}
MEMORY_MIB = 1024
EXTRA_DISK_MIB = 256
SECURITY = ("apparmor", "selinux")
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
COMMON = ("-machine", "q35", "-display", "none", "-nodefaults", "-no-user-config", "-m", str(MEMORY_MIB))


def accelerator(image: Path) -> str:
    """Return kvm if a kernel reaches its first panic in it, otherwise tcg."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    known = CACHE / "vm-accelerator"
    if not known.exists():
        known.write_text("kvm" if kvm_boots(image) else "tcg")
    return known.read_text()


def kvm_boots(image: Path, seconds: float = 20) -> bool:
    """Boot the image in KVM and wait for the first line of systemd; a guest may crash although /dev/kvm opens."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        console = Path(folder) / "console"
        command = [
            QEMU,
            *COMMON,
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-no-reboot",
            *_disk(image, "on"),
            *_console(console),
        ]
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


def _disk(path: Path, snapshot: str) -> list[str]:
    return ["-drive", f"if=virtio,file={path},format=raw,snapshot={snapshot},cache=unsafe"]


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

    def start(self, files: Mapping[str, File], security: str = SECURITY[0]) -> Endpoint:
        """Start the machine unless it runs; return where its SSH server listens.

        :param files: name -> content, mode and owner; written at each boot.
        :param security: the security module of the kernel, one of SECURITY.
        """
        if self.state:
            return endpoint(self.state["port"])
        with engine.lock():
            engine.ensure_tools(TOOLS)
            image = vm_image.ensure()
            accel = accelerator(image)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        (self.dir / "credentials").write_text(credentials(self.name, files))
        disk = self.dir / "disk.img"
        subprocess.run(["cp", "--sparse=always", image, disk], check=True)
        extra = self.dir / "models.img"
        subprocess.run(["truncate", "-s", f"{EXTRA_DISK_MIB}M", extra], check=True)
        mke2fs = shutil.which("mke2fs", path=engine.SEARCH) or "mke2fs"
        subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-L", "lab-models", extra], check=True)
        port = free_port()
        command = self._command(disk, extra, accel, port, security)
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

    def _command(self, disk: Path, extra: Path, accel: str, port: int, security: str) -> list[str]:
        options = {
            "accel": accel,
            "smp": "2",
            "smbios": f"type=11,path={self.dir / 'credentials'}",
            "netdev": f"user,id=net,hostfwd=tcp:{endpoint(port).address}:{port}-:22",
            # The file system of models: a disk that can be removed while the machine runs.
            "blockdev": f"driver=file,node-name=models,filename={extra},cache.no-flush=on",
            "qmp": "unix:qmp,server=on,wait=off",
        }
        devices = ("virtio-rng-pci", "virtio-net-pci,netdev=net,romfile=", "pcie-root-port,id=rp1,chassis=1")
        return [
            *(QEMU, *COMMON, "-no-reboot", *_disk(disk, "off"), *_console(self.dir / "console.log")),
            *(["-cpu", "host"] if accel == "kvm" else []),
            # GRUB reads it and writes it to the command line of the kernel.
            *("-smbios", f"type=1,family={security}"),
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


def credentials(name: str, files: Mapping[str, File]) -> str:
    """Return the credential from which systemd-tmpfiles writes the files of a machine at boot."""
    lines = [f"f+ /etc/hostname 0644 root root - {name}"]
    for path, (content, mode, owner) in files.items():
        if owner:
            lines.append(f"d /{Path(path).parent} 0700 {owner} {owner}")
        lines.append(f"f+~ /{path} {mode:04o} {owner} {owner} - {base64.b64encode(content).decode()}")
    text = base64.b64encode("".join(f"{line}\n" for line in lines).encode()).decode()
    return f"io.systemd.credential.binary:tmpfiles.extra={text}"


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
