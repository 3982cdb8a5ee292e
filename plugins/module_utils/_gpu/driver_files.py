# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a driver installation other than its packages: sources, pins, module options, boot. Pure.

The role creates all of them. It edits no file of a package or of an administrator.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .driver_systems import Offer, System

HEAD = "# Managed by the Ansible role kaido.ollama.gpu_driver: changes here are lost.\n"
NOUVEAU = "/etc/modprobe.d/kaido-gpu-driver.conf"
APT_SOURCES = "/etc/apt/sources.list.d/kaido-gpu-driver.sources"
YUM_REPOSITORY = "/etc/yum.repos.d/kaido-gpu-driver.repo"
KEYS = {"deb": "/etc/apt/keyrings/kaido-gpu-driver.asc", "rpm": "/etc/pki/rpm-gpg/kaido-gpu-driver.asc"}
_NVIDIA_SITE = "https://developer.download.nvidia.com/compute/cuda/repos"
_AMD_SITE = "https://repo.radeon.com"
_AMD_FINGERPRINT = "CA8BB4727A47B4D09B4EE8969386B48A1A693C5C"
_DRIVER_PACKAGES = (
    "nvidia-* libnvidia-* libcuda1* libcudadebugger1* cuda-drivers* firmware-nvidia-* xserver-xorg-video-nvidia*"
)


class DriverFile(t.NamedTuple):
    """A file of the installation, owned by root."""

    path: str
    content: str
    mode: str = "0644"


class Key(t.NamedTuple):
    """A repository's signing key, pinned by its fingerprint."""

    url: str
    fingerprint: str
    path: str


class AptSource(t.NamedTuple):
    """An entry in the package sources of apt."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(frozen=True)
class _Repository:
    url: str
    suite: str
    components: str = ""


def key(system: System, machine: str, fingerprint: str) -> Key:
    """Return the key of NVIDIA's repository."""
    return Key(f"{_nvidia_url(system, machine)}{system.key}", fingerprint, KEYS[system.family])


def amd_key(system: System, fingerprint: str) -> Key:
    """Return the key of AMD's repository. An empty fingerprint means the one that this release contains."""
    return Key(f"{_AMD_SITE}/rocm/rocm.gpg.key", fingerprint or _AMD_FINGERPRINT, KEYS[system.family])


def _nvidia_url(system: System, machine: str) -> str:
    # The directory for 64-bit Arm servers is sbsa; arm64 is for Jetson devices.
    return f"{_NVIDIA_SITE}/{system.folder}/{'sbsa' if machine == 'aarch64' else machine}/"


def repositories(
    system: System, offer: Offer, branch: int, modules: str, archive: t.Sequence[AptSource], machine: str
) -> list[DriverFile]:
    """Return the files of the package source, pinned to the branch."""
    if offer.source == "distribution":
        if system.name.startswith("debian"):
            return components(system, archive, ("contrib", "non-free", "non-free-firmware"))
        return []
    url = _nvidia_url(system, machine)
    if system.family == "rpm":
        return _rpm_repository(system, url, branch, modules)
    pin = (
        f"{HEAD}# Only this branch of the driver is installed from NVIDIA's repository.\n"
        f"Package: *\nPin: release l=NVIDIA CUDA\nPin-Priority: 1\n\n"
        f"Package: {_DRIVER_PACKAGES}\nPin: version {branch}.*\nPin-Priority: 1001\n"
    )
    return [
        _deb822([_Repository(url, "/")], KEYS["deb"]),
        DriverFile("/etc/apt/preferences.d/kaido-gpu-driver", pin),
    ]


def _deb822(repositories: t.Sequence[_Repository], signed_by: str) -> DriverFile:
    stanzas = []
    for repository in repositories:
        lines = ["Types: deb", f"URIs: {repository.url}", f"Suites: {repository.suite}"]
        lines += [f"Components: {repository.components}"] if repository.components else []
        lines += [f"Signed-By: {signed_by}"] if signed_by else []
        stanzas.append("\n".join(lines) + "\n")
    return DriverFile(APT_SOURCES, HEAD + "\n".join(stanzas))


def components(system: System, archive: t.Sequence[AptSource], wanted: t.Sequence[str]) -> list[DriverFile]:
    """Return the file that adds the missing components of Debian's archive.

    URI, suite and key are those of the host's own entry: apt reads no source if two entries of a suite have different
    keys.
    """
    if not system.name.startswith("debian"):
        return []
    has: dict[tuple[str, str], set[str]] = {}
    keys: dict[tuple[str, str], str] = {}
    for source in archive:
        place = (source.uri, source.suite)
        has.setdefault(place, set()).update(source.components)
        keys[place] = keys.get(place) or source.signed_by
    stanzas = []
    for (uri, suite), there in has.items():
        lacking = [component for component in wanted if component not in there]
        if "main" in there and lacking:
            lines = [f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(lacking)}\n"]
            lines += [f"Signed-By: {keys[uri, suite]}\n"] if keys[uri, suite] else []
            stanzas.append("".join(lines))
    return [DriverFile(APT_SOURCES, HEAD + "\n".join(stanzas))] if stanzas else []


def _rpm_repository(system: System, url: str, branch: int, modules: str) -> list[DriverFile]:
    streams = system.name in ("el8", "el9")
    # Where the repository has no module streams, the repository file excludes other branches.
    only = "" if streams else f"includepkgs=*-{branch}.* *:{branch}.*\n"
    repository = (
        f"{HEAD}[kaido-gpu-driver]\nname=NVIDIA's driver\nbaseurl={url}\nenabled=1\ngpgcheck=1\n"
        f"gpgkey=file://{KEYS['rpm']}\n{only}"
    )
    files = [DriverFile(YUM_REPOSITORY, repository)]
    if streams:
        stream = f"{branch}-{'open' if modules == 'open' else 'dkms'}"
        # `dnf module enable` writes the same file.
        module = f"[nvidia-driver]\nname=nvidia-driver\nstream={stream}\nprofiles=\nstate=enabled\n"
        files.append(DriverFile("/etc/dnf/modules.d/nvidia-driver.module", module))
    return files


def amd_repository(system: System, version: str) -> list[DriverFile]:
    """Return AMD's repository. On Debian it is the one of an Ubuntu release."""
    base = f"{_AMD_SITE}/amdgpu/{version}"
    if system.family == "rpm":
        repository = (
            f"{HEAD}[kaido-gpu-driver]\nname=AMD's driver\nbaseurl={base}/{system.amdgpu}/main/x86_64/\nenabled=1\n"
            f"priority=50\ngpgcheck=1\ngpgkey=file://{KEYS['rpm']}\n"
        )
        return [DriverFile(YUM_REPOSITORY, repository)]
    own = _deb822([_Repository(f"{base}/ubuntu", str(system.amdgpu), "main")], KEYS["deb"])
    # Another file adds components of Debian's archive, so this one has a different name.
    return [own._replace(path="/etc/apt/sources.list.d/kaido-gpu-driver-amd.sources")]


def nouveau(system: System, offer: Offer) -> list[DriverFile]:
    """Return the file that blacklists nouveau; none for Debian's own packages, which contain one."""
    if system.name.startswith("debian") and offer.source == "distribution":
        return []
    return [DriverFile(NOUVEAU, f"{HEAD}blacklist nouveau\nblacklist nova_core\noptions nouveau modeset=0\n")]


_SLEEP = """#!/bin/sh
{head}# After a suspend CUDA fails until nvidia-uvm is reloaded, which requires that no process uses it.
services="{services}"
state=/run/kaido-gpu-driver.stopped
case "$1" in
pre)
  : >"$state"
  for service in $services; do
    systemctl --quiet is-active "$service" && systemctl stop "$service" && echo "$service" >>"$state"
  done
  ;;
post)
  rmmod nvidia_uvm
  modprobe nvidia-uvm
  nvidia-modprobe -u -c 0
  while read -r service; do systemctl start "$service"; done <"$state"
  ;;
esac
exit 0
"""


def boot(sleep_services: t.Sequence[str]) -> list[DriverFile]:
    """Return the files that prepare CUDA before a server starts, at boot and after a suspend."""
    drop_in = (
        f"{HEAD}# Loading nvidia-uvm does not create its device node, and a sandboxed server cannot create it.\n"
        "[Service]\nExecStartPost=-/usr/bin/nvidia-modprobe -u -c 0\n"
    )
    return [
        DriverFile("/etc/modules-load.d/kaido-gpu-driver.conf", f"{HEAD}nvidia-uvm\n"),
        DriverFile("/etc/systemd/system/nvidia-persistenced.service.d/kaido-gpu-driver.conf", drop_in),
        DriverFile(
            "/usr/lib/systemd/system-sleep/kaido-gpu-driver",
            _SLEEP.format(head=HEAD, services=" ".join(sleep_services)),
            "0755",
        ),
    ]
