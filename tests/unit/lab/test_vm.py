# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of the lab: partition table, files at boot, the monitor, and whose process is ended."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from tests.lab import LabError, engine, releases, vm, vm_image
from tests.standin import until


def test_the_partition_ends_with_the_disk_and_the_boot_code_stays() -> None:
    code = bytes(range(256)) * 2
    sector = vm_image.boot_sector(code, 8192)
    assert len(sector) == 512
    assert sector[:440] == code[:440]
    assert sector[510:] == b"\x55\xaa"
    bootable, kind, first, length = struct.unpack("<B3xB3xII", sector[446:462])
    assert (bootable, kind, first, first + length) == (0x80, 0x83, vm_image.FIRST, 8192)


def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {vm_image.source(arch) for arch in vm_image.ARCHITECTURES}
    assert len(before) == 2
    monkeypatch.setattr(vm_image, "PACKAGES", f"{vm_image.PACKAGES},nginx")
    assert before.isdisjoint({vm_image.source(arch) for arch in vm_image.ARCHITECTURES})


def test_the_image_of_amd64_is_built_on_amd64_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_image, "CACHE", tmp_path)
    monkeypatch.setattr(vm_image, "HERE", "arm64")
    with pytest.raises(LabError, match="this machine is arm64, and the image of an amd64 machine"):
        vm_image.ensure("amd64")


def test_a_cached_image_is_used_and_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_image, "CACHE", tmp_path)
    monkeypatch.setattr(engine, "ensure_tools", pytest.fail)
    image = tmp_path / f"vm-trixie-arm64-{vm_image.source('arm64')}"
    image.mkdir()
    assert vm_image.ensure("arm64") == image


@pytest.mark.parametrize(
    ("kind", "accel", "options"),
    [
        ("apparmor", "tcg", {"-machine": "q35", "-cpu": "qemu64", "-smbios": "type=1,family=apparmor"}),
        ("selinux", "kvm", {"-machine": "q35", "-cpu": "host", "-smbios": "type=1,family=selinux"}),
        ("arm64", "tcg", {"-cpu": "cortex-a72", "-kernel": "/image/vmlinuz"}),
    ],
)
def test_the_computer_of_each_kind(kind: str, accel: str, options: dict[str, str]) -> None:
    command = vm.computer(Path("/image"), vm.KINDS[kind], accel)
    assert options.items() <= dict(pairwise(command)).items()
    assert command[0] == vm.EMULATORS[vm.KINDS[kind].arch].program
    assert "-no-reboot" in command


def test_another_architecture_never_uses_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of the test boot is that of this architecture."""
    monkeypatch.setattr(vm, "CACHE", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: True)
    (tmp_path / "vm-accelerator").write_text("kvm")
    (other,) = vm.EMULATORS.keys() - {releases.HERE}
    assert [vm.accelerator(tmp_path, arch) for arch in (releases.HERE, other)] == ["kvm", "tcg"]


def test_files_of_a_machine_are_written_by_systemd_tmpfiles() -> None:
    text = vm.tmpfiles(
        "hecate", {"home/ops/.ssh/authorized_keys": (b"key\n", 0o600, 1000), "etc/hosts": (b"", 0o644, 0)}
    )
    assert text.splitlines() == [
        "f+ /etc/hostname 0644 root root - hecate",
        "d /home/ops/.ssh 0700 1000 1000",
        "f+~ /home/ops/.ssh/authorized_keys 0600 1000 1000 - a2V5Cg==",
        "f+~ /etc/hosts 0644 0 0 - ",
    ]


def test_no_machine_has_the_address_of_the_controller() -> None:
    assert vm.endpoint(22 << 8 | 7) == ("127.86.22.7", 22 << 8 | 7)


def machine(folder: Path, pid: int, start: int) -> vm.Machine:
    (folder / "state.json").write_text(json.dumps({"pid": pid, "start": start, "port": 1, "accelerator": "tcg"}))
    return vm.Machine("hecate", folder)


def test_only_the_process_that_was_started_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        other = machine(tmp_path, process.pid, engine.start_time(process.pid) + 1)
        other.stop()
        assert process.poll() is None, "a process with the number of an earlier machine"
        own = machine(tmp_path, process.pid, engine.start_time(process.pid))
        assert own.state["pid"] == process.pid
        own.remove()
        assert process.wait(10) == -15
    assert not tmp_path.exists()


FAKE = """
echo "$$ $*" >>runs
case $(wc -l <runs) in
1) exit 0 ;;
2) touch unplugged ;;
3) exec sleep 60 ;;
esac
"""


def test_a_machine_is_started_again_without_a_removed_disk_and_ends_with_its_process(tmp_path: Path) -> None:
    command = ["sh", "-c", vm.LOOP, "sh", "sh", "-c", FAKE, "qemu", "-no-reboot"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        runs = tmp_path / "runs"
        until(lambda: runs.exists() and len(runs.read_text().splitlines()) == 3)
        lines = [line.split(" ", 1) for line in runs.read_text().splitlines()]
        disk = " -device virtio-blk-pci,id=models,drive=models,bus=rp1"
        assert [options for _pid, options in lines] == [f"-no-reboot{disk}", f"-no-reboot{disk}", "-no-reboot"]
        machine(tmp_path, process.pid, engine.start_time(process.pid)).stop()
        process.wait(10)
        until(lambda: engine.start_time(int(lines[2][0])) == 0)


def test_a_machine_that_does_not_start_is_not_started_again(tmp_path: Path) -> None:
    command = ["sh", "-c", vm.LOOP, "sh", "sh", "-c", "echo once >>runs; exit 1"]
    assert subprocess.run(command, cwd=tmp_path, timeout=10, check=False).returncode == 1
    assert (tmp_path / "runs").read_text() == "once\n"


def test_a_machine_without_a_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "qemu.log").write_text("qemu: no such device\n")
    with pytest.raises(LabError, match="hecate ended: qemu: no such device"):
        machine(tmp_path, os.getpid(), 0).wait(tmp_path / "ssh_config")
    with pytest.raises(LabError, match="the monitor of the VM does not answer"):
        vm.Machine("hecate", tmp_path).reset()


def test_a_refusal_of_the_monitor_is_shown(tmp_path: Path) -> None:
    """Events between the answers are skipped; the path of the socket is longer than the kernel accepts."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    asked = []

    def serve(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        with connection, connection.makefile("rw") as stream:
            stream.write('{"QMP": {}}\n')
            stream.flush()
            for answer in ('{"return": {}}', '{"event": "RESET"}\n{"error": {"desc": "not found"}}'):
                asked.append(json.loads(stream.readline()))
                stream.write(f"{answer}\n")
                stream.flush()

    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(folder, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{descriptor}/qmp")
        os.close(descriptor)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(LabError, match="hecate: device_del: not found"):
            vm.Machine("hecate", folder).unplug()
        thread.join(10)
    assert asked[1] == {"execute": "device_del", "arguments": {"id": "models"}}
