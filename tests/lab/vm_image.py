# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of virtual machines: Debian 13 with its own kernel, initramfs and GRUB, built once and cached.

mmdebstrap creates the root file system, mke2fs copies it into a disk image, and GRUB is written in front of it, so
that the machine boots the kernel and the initramfs of its own disk. Nothing is mounted for it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import struct
import subprocess
import tempfile
from pathlib import Path

from . import CACHE, LabError, engine, say

SUITE = "trixie"
DISK_MIB = 4096
# Sectors of 512 bytes before the file system, for the partition table and GRUB.
FIRST = 2048
# A cloud host, the parts that only a real kernel needs, and the tools that build a kernel module.
PACKAGES = (
    "linux-image-amd64,linux-headers-amd64,dkms,initramfs-tools,kmod,udev,apparmor,grub-pc-bin,grub-common,"
    "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,ca-certificates,iproute2,procps,curl,zstd,python3-apt,"
    "selinux-policy-default,selinux-utils,policycoreutils"
)
# Sources of a GPU and of stand-ins for its driver.
DRIVER = Path(__file__).with_name("driver")
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "truncate": "coreutils"}
# Before the first package: a small initramfs, without a look at the hardware of the machine that builds it.
ESSENTIAL = """
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\\nCOMPRESS=zstd\\n' >"$1/etc/initramfs-tools/conf.d/lab"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >"$1/etc/initramfs-tools/modules"
"""
# SELinux is permissive at boot: Debian's policy does not allow systemd-tmpfiles to read the credentials from which it
# writes the files of the lab.
CUSTOMIZE = r"""
cat >"$1/boot/lab-grub.cfg" <<END
set root=(hd0,msdos1)
smbios --type 1 --get-string 26 --set security
linux /vmlinuz root=LABEL=lab-root ro console=ttyS0 panic=10 mitigations=off security=\$security
initrd /initrd.img
boot
END
chroot "$1" sh /usr/src/driver/build.sh
chroot "$1" grub-mkimage --format=i386-pc --output=/boot/lab-core.img --prefix=/ --config=/boot/lab-grub.cfg \
    biosdisk part_msdos ext2 linux smbios
cp "$1/usr/lib/grub/i386-pc/boot.img" "$1/boot/lab-boot.img"
echo 'LABEL=lab-root / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
: >"$1/etc/machine-id"
echo localhost >"$1/etc/hostname"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$1/etc/systemd/network/lab.network"
echo 'nameserver 10.0.2.3' >"$1/etc/resolv.conf"
rm -f "$1"/etc/ssh/ssh_host_*
chroot "$1" useradd --uid 1000 --create-home --shell /bin/bash ops
echo 'ops ALL=(ALL) NOPASSWD:ALL' >"$1/etc/sudoers.d/ops"
printf '%s\n' 'PermitRootLogin no' 'PasswordAuthentication no' 'UseDNS no' >"$1/etc/ssh/sshd_config.d/lab.conf"
printf 'blacklist %s\n' kvm_amd kvm_intel powernow_k8 floppy >"$1/etc/modprobe.d/lab.conf"
chroot "$1" systemctl enable --quiet systemd-networkd.service ssh.service
chroot "$1" systemctl mask --quiet systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_reap.service
chroot "$1" systemctl set-default --quiet multi-user.target
# The types of all files, so that a boot with SELinux relabels nothing.
printf 'SELINUX=permissive\nSELINUXTYPE=default\n' >"$1/etc/selinux/config"
chroot "$1" setfiles -F -m -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /
"""
# Root's part: file owners need it. The result belongs to the user who runs the lab.
BUILD = r"""
trap 'rm -rf --one-file-system "$work"' EXIT
mmdebstrap --quiet --variant=minbase --format=directory --include="$packages" --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook="$essential" --customize-hook="copy-in $driver /usr/src" --customize-hook="$customize" \
    "$suite" "$work/root"
truncate -s "${mib}M" "$target/disk"
mke2fs -q -F -t ext4 -L lab-root -d "$work/root" -E offset=1048576 "$target/disk" "$((mib - 1))M"
cp "$work/root/boot/lab-boot.img" "$work/root/boot/lab-core.img" "$target"
chown "$owner" "$target" "$target"/*
"""


def source() -> str:
    """Return the hash of the sources of the image."""
    parts = [SUITE, str(DISK_MIB), PACKAGES, ESSENTIAL, CUSTOMIZE, BUILD]
    parts += [path.read_text() for path in sorted(DRIVER.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def ensure() -> Path:
    """Return the disk image; build it if it is missing or was built from other sources."""
    image = CACHE / f"vm-{SUITE}-{source()}.img"
    if image.exists():
        return image
    if os.uname().machine != "x86_64":
        raise LabError(f"virtual machines of the lab are amd64, and this machine is {os.uname().machine}")
    engine.ensure_tools(TOOLS)
    for old in CACHE.glob(f"vm-{SUITE}-*.img"):
        old.unlink()
    say(f"vm: building {image.name} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="vm-", dir=CACHE) as folder:
        _build(Path(folder))
        os.replace(Path(folder) / "disk", image)
    return image


def _build(folder: Path) -> None:
    """Build the disk in the folder."""
    variables = {
        "work": str(folder / "work"),
        "target": str(folder),
        "packages": PACKAGES,
        "essential": ESSENTIAL,
        "customize": CUSTOMIZE,
        "driver": shlex.quote(str(DRIVER)),
        "suite": SUITE,
        "mib": str(DISK_MIB),
        "owner": f"{os.getuid()}:{os.getgid()}",
    }
    (folder / "work").mkdir()
    command = ["env", f"PATH={engine.SEARCH}", *(f"{name}={value}" for name, value in variables.items())]
    done = subprocess.run(
        engine.as_root([*command, "sh", "-euc", BUILD]), capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        raise LabError(f"the image of the VM was not built: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
    with (folder / "disk").open("r+b") as disk:
        core = (folder / "lab-core.img").read_bytes()
        if len(core) > (FIRST - 1) * 512:
            raise LabError(f"GRUB has {len(core)} bytes, more than the space before the file system")
        disk.write(boot_sector((folder / "lab-boot.img").read_bytes(), DISK_MIB * 2048) + core)


def boot_sector(code: bytes, sectors: int) -> bytes:
    """Return GRUB's boot code with a partition table of one bootable partition from FIRST to the end of the disk."""
    partition = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST, sectors - FIRST)
    return code[:440] + b"klab" + bytes(2) + partition + bytes(48) + b"\x55\xaa"
