# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems and GPUs of the driver plans."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_files
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Card, Target

K40, M40, P40, V100 = "10de:1024", "10de:17fd", "10de:1b38", "10de:1db4"


T4, A100, RTX3090, H100, RTX4090 = "10de:1eb8", "10de:20b0", "10de:2204", "10de:2330", "10de:2684"


RTX5090, B300, FUTURE = "10de:2b85", "10de:3182", "10de:3a00"


RX6800, RX7900, RX7800, MI300, STRIX, RAPHAEL = (
    "1002:73bf",
    "1002:744c",
    "1002:747e",
    "1002:74a1",
    "1002:1586",
    "1002:164e",
)


MIRROR = tuple(
    driver_files.AptSource(f"http://deb.debian.org/debian{suffix}", suite, ("main",), "/usr/share/keyrings/d.gpg")
    for suffix, suite in (("", "trixie"), ("-security", "trixie-security"))
)


DEBIAN12 = Target("debian", "12", "6.1.0-56-amd64", codename="bookworm", archive=MIRROR)


DEBIAN12_BPO = replace(DEBIAN12, kernel="6.12.95+deb12-amd64")


DEBIAN13 = Target("debian", "13", "6.12.117+deb13-amd64", codename="trixie", archive=MIRROR)


DEBIAN13_BPO = replace(DEBIAN13, kernel="7.3.4+deb13-amd64")


DEBIAN13_OLD = replace(DEBIAN13, kernel="6.12.48+deb13-amd64")


FORKY = Target("debian", "", "7.2.12+deb14-amd64", codename="forky")


UBUNTU = Target("ubuntu", "24.04", "6.8.0-88-generic", ("debian",))


UBUNTU26 = Target("ubuntu", "26.04", "7.0.0-31-generic", ("debian",))


ROCKY8 = Target("rocky", "8.10", "4.18.0-553.el8_10.x86_64", ("rhel", "centos", "fedora"))


ROCKY9 = Target("rocky", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("rhel", "centos", "fedora"))


RHEL9 = Target("rhel", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("fedora",))


ALMA10 = Target("almalinux", "10.1", "6.12.0-124.el10_1.x86_64", ("rhel", "centos", "fedora"))


FEDORA42 = Target("fedora", "42", "6.17.4-200.fc42.x86_64")


ARCH = Target("arch", "", "6.17.5-arch1-1")


PVE12 = replace(DEBIAN12, kernel="6.8.12-4-pve")


PVE13 = replace(DEBIAN13, kernel="6.14.11-2-bpo12-pve")


XANMOD = "6.12.8-x64v3-xanmod1"


SB = {"secure_boot": True}


def on(target: Target, *cards: str, **more: t.Any) -> Target:
    vendors = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
    integrated = {STRIX, RAPHAEL}
    return replace(
        target, cards=tuple(Card(vendors[card[:4]], card, integrated=card in integrated) for card in cards), **more
    )


def named(value: t.Any) -> str | None:
    if isinstance(value, Target):
        return "-".join([value.os_id + value.os_version, *(card.pci_id for card in value.cards)])
    return str(value) if isinstance(value, dict | tuple) else None
