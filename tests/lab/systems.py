# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems of lab hosts: where a base image comes from, and what turns it into a cloud host. A table.

A cloud host has systemd, an OpenSSH server, Python and sudo before anyone touches it, and no more: roles must install
what they need (zstd, say).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class System:
    image: str
    """Its name in an image registry."""
    install: str
    """Shell that adds what a cloud host has."""
    bootstrap: tuple[str, ...] = ()
    """Arguments of mmdebstrap, which builds it from its package archive without an image registry."""
    command: tuple[str, ...] = ()
    """The command of its containers; that of the image if empty."""
    base: str = ""
    """The system whose base image it uses: it only resembles another system, and is for one scenario."""


# policy-rc.d is a habit of container images; it would keep packages from starting their services.
DEB = """
rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-*
apt-get -q -o Acquire::Retries=3 update
DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 install -y --no-install-recommends \
    systemd systemd-sysv dbus openssh-server python3 sudo ca-certificates iproute2 procps curl
apt-get clean
rm -rf /var/lib/apt/lists/*
"""
# Newer images bring a user at 1000, where the lab wants its own.
UBUNTU = f"""
! id ubuntu >/dev/null 2>&1 || userdel ubuntu
{DEB}
"""
# Images have curl-minimal and systemd-standalone-sysusers, which the complete packages replace. unix_chkpwd may
# not read a shadow file of mode 0 where AppArmor on the lab's machine confines it.
RPM = """
dnf -y --allowerasing --setopt=install_weak_deps=False install \
    systemd dbus openssh-server python3 sudo ca-certificates iproute procps-ng curl shadow-utils tar
dnf clean all
chmod 0400 /etc/shadow
systemctl enable sshd.service
"""
# pacman's own sandbox needs a kernel with Landlock.
ARCH = """
pacman -Syu --disable-sandbox --noconfirm --needed \
    systemd systemd-sysvcompat openssh python sudo ca-certificates iproute2 procps-ng curl
pacman -Scc --noconfirm
systemctl enable sshd.service
"""

# Resembles Rocky Linux 9 for roles and for dnf, with Debian's programs. Scenario rpm packages three of them as RPM.
DNF = f"""
{DEB}
apt-get -q -o Acquire::Retries=3 update
DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 install -y --no-install-recommends \
    dnf rpm createrepo-c gpg gpg-agent openssl liblua5.3-0 libopentracing-c-wrapper0
mkdir -p /srv/programs
for package in nginx haproxy zstd; do
    (cd /tmp && apt-get -q -o APT::Sandbox::User=root download $package)
    dpkg-deb --extract /tmp/${{package}}_*.deb /srv/programs/$package
done
rm -rf /tmp/*.deb /var/lib/apt /var/lib/dpkg /etc/apt /usr/bin/apt* /usr/bin/dpkg* /etc/debian_version
mkdir -p /etc/yum.repos.d /etc/pki/rpm-gpg /etc/pki/tls/certs /etc/rpm /etc/dnf/vars
ln -s /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
echo 9 >/etc/dnf/vars/releasever
printf '%s\n' '[main]' gpgcheck=1 installonly_limit=3 clean_requirements_on_remove=True best=True \
    skip_if_unavailable=False >/etc/dnf/dnf.conf
echo 'Rocky Linux release 9.8 (Blue Onyx)' >/etc/redhat-release
printf '%s\n' 'NAME="Rocky Linux"' 'ID="rocky"' 'ID_LIKE="rhel centos fedora"' 'VERSION_ID="9.8"' \
    'PLATFORM_ID="platform:el9"' 'PRETTY_NAME="Rocky Linux 9.8 (Blue Onyx)"' >/usr/lib/os-release
"""

# From 258 on, systemd knows cgroup v2 only. Where the engine has v1, v2 lies beside it, and this container has its own.
CGROUP2 = """
[ -e /sys/fs/cgroup/cgroup.procs ] || { umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; }
exec /sbin/init
"""
NEW_SYSTEMD = ("/bin/sh", "-euc", CGROUP2)

_UBUNTU_ARCHIVE = {"x86_64": "http://archive.ubuntu.com/ubuntu"}.get(
    os.uname().machine, "http://ports.ubuntu.com/ubuntu-ports"
)
# Debian has no package of it. Its fingerprint: F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C
_UBUNTU_KEY = Path(__file__).with_name("ubuntu.asc")


def _debian(number: str, suite: str) -> System:
    return System(f"debian:{number}", DEB, (suite, "-"))


def _ubuntu(number: str, suite: str, command: tuple[str, ...] = ()) -> System:
    lines = [f"deb {_UBUNTU_ARCHIVE} {suite}{pocket} main universe" for pocket in ("", "-updates", "-security")]
    bootstrap = (f"--keyring={_UBUNTU_KEY}", "--include=apt", suite, "-", *lines)
    return System(f"ubuntu:{number}", UBUNTU, bootstrap, command)


SYSTEMS = {
    "debian12": _debian("12", "bookworm"),
    "debian13": _debian("13", "trixie"),
    "ubuntu2204": _ubuntu("22.04", "jammy"),
    "ubuntu2404": _ubuntu("24.04", "noble"),
    "ubuntu2604": _ubuntu("26.04", "resolute", command=NEW_SYSTEMD),
    "rocky9": System("rockylinux/rockylinux:9", RPM),
    "rocky10": System("rockylinux/rockylinux:10", RPM),
    "alma9": System("almalinux:9", RPM),
    "alma10": System("almalinux:10", RPM),
    # Red Hat's Universal Base Images: RHEL's own packages, but not all of them.
    "rhel9": System("registry.access.redhat.com/ubi9/ubi:latest", RPM),
    "rhel10": System("registry.access.redhat.com/ubi10/ubi:latest", RPM),
    "fedora44": System("fedora:44", RPM, command=NEW_SYSTEMD),
    "arch": System("archlinux:latest", ARCH, command=NEW_SYSTEMD),
    "rocky9-stub": System("debian:12", DNF, base="debian12"),
}
