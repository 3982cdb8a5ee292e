# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of a plan, and so which steps are missing: files, packages, a built module, what is enabled.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import json
import os
import re
import stat
import typing as t

from . import driver_files, driver_plan, repository_key
from .facts import Host, Run, Tree, module_path

RECORD = "/var/lib/kaido-ollama/gpu_driver.json"
_DEBIAN_URI = re.compile(r"/debian(-security)?(\.list)?/?\Z")
_FOREIGN = re.compile(r"developer\.download\.nvidia\.com/compute/cuda|graphics-drivers/ppa|/nvidia-driver/")
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_SOURCES = ("etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources")


def packages(tree: Tree, family: str, names: t.Sequence[str], run: Run) -> dict[str, str]:
    """Return installed package -> dpkg's status of it; of rpm's only those asked for."""
    if family == "rpm":
        answers = {name: run(["rpm", "--query", name]) for name in names}
        return {name: "install ok installed" for name, answer in answers.items() if answer and answer[0] == 0}
    found = re.findall(r"^Package: (\S+)\nStatus: (.+)$", tree.text("var/lib/dpkg/status"), re.MULTILINE)
    return {name: status for name, status in found if not status.endswith((" config-files", " not-installed"))}


def record(tree: Tree) -> dict[str, t.Any]:
    """Return what earlier runs of the role have changed; {} where there is nothing of ours."""
    try:
        return dict(json.loads(tree.text(RECORD) or "{}"))
    except ValueError:
        return {}


def target(tree: Tree, host: Host) -> driver_plan.Target:
    """Return the host as the planner needs it."""
    cards = [gpu for gpu in host.gpus if gpu.pci_id and gpu.state != "reserved_for_passthrough"]
    nvidia = [gpu for gpu in cards if gpu.vendor == "nvidia"]
    return driver_plan.Target(
        os_id=host.os_id,
        os_version=host.os_version,
        kernel=host.kernel,
        os_like=host.os_like,
        codename=host.codename,
        machine=host.machine,
        platform=host.platform,
        secure_boot=host.secure_boot,
        key_enrolled=host.key_enrolled,
        cards=tuple(driver_plan.Card(gpu.vendor, str(gpu.pci_id), gpu.name, gpu.integrated) for gpu in cards),
        works=bool(nvidia) and all(gpu.usable for gpu in nvidia),
        ours=bool(record(tree)),
        installer=host.nvidia.installer,
        nvswitches=host.nvidia.nvswitches,
        foreign=tuple(_foreign(tree)),
        archive=tuple(_archive(tree, host.codename)),
        packages=frozenset(packages(tree, "deb", (), lambda _argv: None)),
        epel=bool(tree.find("etc/yum.repos.d/epel*.repo")),
    )


def _foreign(tree: Tree) -> t.Iterator[str]:
    for path in (path for pattern in (*_SOURCES, "etc/yum.repos.d/*.repo") for path in tree.find(pattern)):
        if "kaido-gpu-driver" in path:
            continue
        stanzas = re.split(r"\n\s*\n|(?=^\[)", tree.text(path), flags=re.MULTILINE)
        lines = [re.sub(r"^\s*#.*$", "", stanza, flags=re.MULTILINE) for stanza in stanzas]
        if any(_FOREIGN.search(text) and not re.search(r"(?i)^enabled\s*[:=]\s*(no|0)", text, re.M) for text in lines):
            yield f"/{path}"


def _archive(tree: Tree, codename: str) -> t.Iterator[driver_files.Source]:
    """Yield Debian's own entries in apt's sources, both formats."""
    suites = {f"{name}{suffix}" for name in (codename, "stable") for suffix in ("", "-updates", "-security")}
    for source in _apt_sources(tree):
        if _DEBIAN_URI.search(source.uri) and source.suite in suites:
            yield source


def _apt_sources(tree: Tree) -> t.Iterator[driver_files.Source]:
    for path in (path for pattern in _SOURCES for path in tree.find(pattern)):
        if "kaido-gpu-driver" in path:
            continue
        text = re.sub(r"^#.*\n?|[ \t]#.*$", "", tree.text(path), flags=re.MULTILINE)
        if not path.endswith(".sources"):
            for options, uri, suite, components in _ONE_LINE.findall(text):
                signed = re.search(r"signed-by=(\S+)", options)
                yield driver_files.Source(uri, suite, tuple(components.split()), signed[1] if signed else "")
            continue
        for stanza in re.split(r"\n\s*\n", text):
            fields = {key.lower(): value for key, value in re.findall(r"^(\S+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        components = tuple(fields.get("components", "").split())
                        yield driver_files.Source(uri, suite, components, fields.get("signed-by", ""))


def differing(tree: Tree, plan: driver_plan.Plan) -> list[driver_files.File]:
    """Return the files that are missing or not as planned."""
    return [file for file in plan.files if not _is_there(tree, file)]


def _is_there(tree: Tree, file: driver_files.File) -> bool:
    path = tree.at(file.path)
    return (
        os.path.isfile(path)
        and tree.bytes(file.path) == file.content.encode()
        and stat.S_IMODE(os.stat(path).st_mode) == int(file.mode, 8)
    )


def stale(plan: driver_plan.Plan, done: t.Mapping[str, t.Any]) -> list[str]:
    """Return files of an earlier plan that this one does not have."""
    keep = {file.path for file in plan.files} | ({plan.key.path} if plan.key else set())
    return [path for path in done.get("files", []) if path not in keep]


def todo(tree: Tree, host: Host, plan: driver_plan.Plan, done: t.Mapping[str, t.Any], run: Run) -> dict[str, str]:
    """Return the steps that are missing, in order, each with a reason for people."""
    steps: dict[str, str] = {}
    if plan.key and repository_key.fingerprints(tree.bytes(plan.key.path)) != [plan.key.fingerprint]:
        steps["key"] = f"{plan.key.path} does not hold the key {plan.key.fingerprint}"
    wrong = [file.path for file in differing(tree, plan)] + stale(plan, done)
    if wrong:
        steps["files"] = f"{', '.join(wrong)}: missing, different or no longer needed"
    installed = packages(tree, plan.family, plan.packages, run)
    lacking = [name for name in plan.packages if not installed.get(name, "").endswith(" ok installed")]
    if lacking:
        steps["packages"] = f"not installed: {', '.join(lacking)}"
    if plan.vendor == "nvidia" and plan.packages and not _is_built(tree, host, plan):
        steps["build"] = f"there is no module for kernel {plan.kernel}"
    held = [name for name in plan.packages if installed.get(name, "").startswith("hold ")]
    wanted = [name for name in plan.packages if name not in plan.headers] if plan.hold else []
    if plan.family == "deb" and set(held) & set(done.get("held", [])) != set(wanted) & set(plan.packages):
        steps["hold"] = f"held: {', '.join(held) or 'nothing'}; to be held: {', '.join(wanted) or 'nothing'}"
    off = [name for name in plan.services if not tree.find(f"etc/systemd/system/*.wants/{name}")]
    if off:
        steps["services"] = f"not enabled: {', '.join(off)}"
    if not plan.image and any(
        gpu.state in ("installed_not_loaded", "uvm_missing") and not gpu.reboot for gpu in host.gpus
    ):
        steps["load"] = "the module is not loaded"
    return steps


def _is_built(tree: Tree, host: Host, plan: driver_plan.Plan) -> bool:
    """A file on disk, and where DKMS builds it DKMS's word too."""
    listed = any(f", {plan.kernel}, " in line and line.endswith(": installed") for line in host.nvidia.dkms)
    return module_path(tree.root, plan.kernel) is not None and (listed or not plan.dkms)
