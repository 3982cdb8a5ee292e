# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of virtual machines: Debian 13 with its own kernel, built once for an architecture and cached.

mmdebstrap creates the root file system, and mke2fs copies it into a disk image. On amd64, GRUB is written in front of
it, so that the machine boots the kernel and the initramfs of its own disk. On arm64, QEMU loads the kernel, which has
the drivers of the disk built in: on amd64, where qemu-user runs the programs of arm64, an initramfs takes minutes to
build.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import CACHE, LabError, engine, say
from .releases import HERE

SUITE = "trixie"
DISK_MIB = 4096
# Sectors of 512 bytes before the file system, for the partition table and GRUB.
FIRST = 2048
SIGNATURE = b"klab"
# A cloud host, and the parts that only a real kernel needs.
PACKAGES = (
    "kmod,udev,apparmor,systemd,systemd-sysv,dbus,openssh-server,python3,sudo,ca-certificates,iproute2,procps,curl"
)
# Sources of a GPU and of stand-ins for its driver.
DRIVER = Path(__file__).with_name("driver")
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "truncate": "coreutils"}
FOREIGN_TOOLS = {"qemu-aarch64-static": "qemu-user-static"}
# Registers qemu-user in the kernel as its package does on a machine with systemd, until the image is built.
FOREIGN = r"""
mkdir "$work/binfmt"
trap 'umount "$work/binfmt"; rm -rf --one-file-system "$work"' EXIT
mount -t binfmt_misc binfmt_misc "$work/binfmt"
if ! [ -e "$work/binfmt/qemu-aarch64" ]; then
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$work/binfmt/register"
    trap 'echo -1 >"$work/binfmt/qemu-aarch64"; umount "$work/binfmt"; rm -rf --one-file-system "$work"' EXIT
fi
"""
# Before the first package: a small initramfs, without a look at the hardware of the machine that builds it.
ESSENTIAL = """
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\\nCOMPRESS=zstd\\n' >"$1/etc/initramfs-tools/conf.d/lab"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >"$1/etc/initramfs-tools/modules"
"""
CUSTOMIZE = r"""
echo 'LABEL=lab-root / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
: >"$1/etc/machine-id"
echo localhost >"$1/etc/hostname"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$1/etc/systemd/network/lab.network"
echo 'nameserver 10.0.2.3' >"$1/etc/resolv.conf"
rm -f "$1"/etc/ssh/ssh_host_*
chroot "$1" useradd --uid 1000 --create-home --shell /bin/bash ops
echo 'ops ALL=(ALL) NOPASSWD:ALL' >"$1/etc/sudoers.d/ops"
printf '%s\n' 'PermitRootLogin no' 'PasswordAuthentication no' 'UseDNS no' >"$1/etc/ssh/sshd_config.d/lab.conf"
chroot "$1" systemctl enable --quiet systemd-networkd.service ssh.service
chroot "$1" systemctl mask --quiet systemd-firstboot.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_reap.service
chroot "$1" systemctl set-default --quiet multi-user.target
"""
# GRUB, the GPU, and the types of all files for SELinux, so that a boot with it relabels nothing. SELinux is permissive
# at boot: Debian's policy does not allow systemd-tmpfiles to read the credentials from which it writes the files of the
# lab.
CUSTOMIZE_AMD64 = r"""
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
printf 'blacklist %s\n' kvm_amd kvm_intel powernow_k8 floppy >"$1/etc/modprobe.d/lab.conf"
printf 'SELINUX=permissive\nSELINUXTYPE=default\n' >"$1/etc/selinux/config"
chroot "$1" setfiles -F -m -e /proc -e /sys -e /dev /etc/selinux/default/contexts/files/file_contexts /
"""
# Root's part: file owners need it. The result belongs to the user who runs the lab.
BUILD = r"""
mmdebstrap --quiet --variant=minbase --format=directory --include="$packages" --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --arch="$arch" --skip=check/qemu \
    --essential-hook="$essential" --customize-hook="copy-in $driver /usr/src" --customize-hook="$customize" \
    "$suite" "$work/root"
truncate -s "${mib}M" "$target/disk"
mke2fs -q -F -t ext4 -L lab-root -d "$work/root" -E offset=1048576 "$target/disk" "$((mib - 1))M"
(cd "$work/root" && cp -L $boot "$target")
chown "$owner" "$target" "$target"/*
"""


class Architecture(NamedTuple):
    """What the images of an architecture have beside the common parts."""

    packages: str
    customize: str
    boot: tuple[str, ...]
    """The files that boot the disk: those of GRUB, or the kernel."""
    initrd: str
    """`No` if the package of the kernel builds no initramfs."""


ARCHITECTURES = {
    # With the tools that build a kernel module.
    "amd64": Architecture(
        "linux-image-amd64,linux-headers-amd64,initramfs-tools,dkms,grub-pc-bin,grub-common,zstd,python3-apt,"
        "selinux-policy-default,selinux-utils,policycoreutils",
        CUSTOMIZE_AMD64,
        ("boot/lab-boot.img", "boot/lab-core.img"),
        "Yes",
    ),
    "arm64": Architecture("linux-image-cloud-arm64", "", ("vmlinuz",), "No"),
}


def source(arch: str) -> str:
    """Return the hash of the sources of the image."""
    parts = [SUITE, str(DISK_MIB), PACKAGES, ESSENTIAL, CUSTOMIZE, BUILD, str(ARCHITECTURES[arch])]
    parts += [path.read_text() for path in sorted(DRIVER.iterdir())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def ensure(arch: str) -> Path:
    """Return the directory of the image; build it if it is missing or was built from other sources."""
    image = CACHE / f"vm-{SUITE}-{arch}-{source(arch)}"
    if image.exists():
        return image
    if arch == "amd64" != HERE:
        raise LabError(f"this machine is {HERE}, and the image of an amd64 machine is built on amd64 only")
    engine.ensure_tools(TOOLS if arch == HERE else {**TOOLS, **FOREIGN_TOOLS})
    for old in CACHE.glob(f"vm-{SUITE}-{arch}-*"):
        shutil.rmtree(old)
    say(f"vm: building {image.name} with mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="vm-", dir=CACHE) as folder:
        (Path(folder) / "image").mkdir()
        _build(Path(folder), Path(folder) / "image", arch)
        os.replace(Path(folder) / "image", image)
    return image


def _build(folder: Path, target: Path, arch: str) -> None:
    """Build the disk in the target."""
    own = ARCHITECTURES[arch]
    variables = {
        "work": str(folder / "work"),
        "target": str(target),
        "arch": arch,
        "packages": f"{PACKAGES},{own.packages}",
        "essential": ESSENTIAL,
        "customize": CUSTOMIZE + own.customize,
        "boot": " ".join(own.boot),
        "INITRD": own.initrd,
        "driver": shlex.quote(str(DRIVER)),
        "suite": SUITE,
        "mib": str(DISK_MIB),
        "owner": f"{os.getuid()}:{os.getgid()}",
    }
    (folder / "work").mkdir()
    script = "trap 'rm -rf --one-file-system \"$work\"' EXIT\n" + ("" if arch == HERE else FOREIGN) + BUILD
    command = ["env", f"PATH={engine.SEARCH}", *(f"{name}={value}" for name, value in variables.items())]
    done = subprocess.run(
        engine.as_root([*command, "sh", "-euc", script]), capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        raise LabError(f"the image of the VM was not built: {' / '.join(done.stderr.strip().splitlines()[-3:])}")
    code, core = bytes(512), b""
    if arch == "amd64":
        code, core = ((target / Path(name).name).read_bytes() for name in own.boot)
    if len(core) > (FIRST - 1) * 512:
        raise LabError(f"GRUB has {len(core)} bytes, more than the space before the file system")
    with (target / "disk").open("r+b") as disk:
        disk.write(boot_sector(code, DISK_MIB * 2048) + core)


def boot_sector(code: bytes, sectors: int) -> bytes:
    """Return GRUB's boot code with a partition table of one bootable partition from FIRST to the end of the disk."""
    partition = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST, sectors - FIRST)
    return code[:440] + SIGNATURE + bytes(2) + partition + bytes(48) + b"\x55\xaa"
