# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that implement a driver plan on a host: files, packages, a built module, enabled services.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import json
import os
import re
import stat
import typing as t

from . import driver_files, repository_key
from .driver_request import Card, DriverPlan, Target
from .facts import GpuHost, module_path
from .support import Verdict
from .tree import Run, Tree

RECORD = "/var/lib/kaido-ollama/gpu_driver.json"
_DEBIAN_URI = re.compile(r"/debian(-security)?(\.list)?/?\Z")
_FOREIGN = re.compile(r"developer\.download\.nvidia\.com/compute/cuda|graphics-drivers/ppa|/nvidia-driver/")
_ONE_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)")
_SOURCES = ("etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources")


def packages(tree: Tree, family: str, names: t.Sequence[str], run: Run) -> dict[str, str]:
    """Return packages with their dpkg status; with rpm, the installed packages among `names`."""
    if family == "rpm":
        answers = {name: run(["rpm", "--query", name]) for name in names}
        return {name: "install ok installed" for name, answer in answers.items() if answer and answer[0] == 0}
    found = re.findall(r"^Package: (\S+)\nStatus: (.+)$", tree.text("var/lib/dpkg/status"), re.MULTILINE)
    return {name: status for name, status in found if not status.endswith((" config-files", " not-installed"))}


def record(tree: Tree) -> dict[str, t.Any]:
    """Return the content of the state file, the changes of earlier runs of the role; {} if there is none."""
    try:
        return dict(json.loads(tree.text(RECORD) or "{}"))
    except ValueError:
        return {}


def target(tree: Tree, host: GpuHost, verdicts: t.Sequence[Verdict]) -> Target:
    """Return the properties of the host on which a plan depends."""
    available = [verdict for verdict in verdicts if verdict.gpu.pci_id and verdict.state != "reserved_for_passthrough"]
    nvidia = [verdict for verdict in available if verdict.gpu.vendor == "nvidia"]
    gpus = [verdict.gpu for verdict in available]
    return Target(
        os_id=host.os_id,
        os_version=host.os_version,
        kernel=host.kernel,
        os_like=host.os_like,
        codename=host.codename,
        machine=host.machine,
        platform=host.platform,
        secure_boot=host.secure_boot,
        key_enrolled=host.key_enrolled,
        mok_certificate=host.mok_certificate,
        cards=tuple(Card(gpu.vendor, str(gpu.pci_id), gpu.name, gpu.integrated) for gpu in gpus),
        works=bool(nvidia) and all(verdict.usable for verdict in nvidia),
        ours=bool(record(tree)),
        installer=host.nvidia.installer,
        nvswitches=host.nvidia.nvswitches,
        foreign=tuple(_foreign(tree)),
        archive=tuple(_archive(tree, host.codename)),
        packages=frozenset(packages(tree, "deb", (), lambda _argv: None)),
        with_headers=frozenset(
            kernel for kernel in tree.names("lib/modules") if tree.resolves(f"lib/modules/{kernel}/build")
        ),
        epel=any(re.search(r"^\[epel\]", tree.text(path), re.M) for path in tree.find("etc/yum.repos.d/*.repo")),
    )


def _foreign(tree: Tree) -> t.Iterator[str]:
    for path in (path for pattern in (*_SOURCES, "etc/yum.repos.d/*.repo") for path in tree.find(pattern)):
        if "kaido-gpu-driver" in path:
            continue
        stanzas = re.split(r"\n\s*\n|(?=^\[)", tree.text(path), flags=re.MULTILINE)
        lines = [re.sub(r"^\s*#.*$", "", stanza, flags=re.MULTILINE) for stanza in stanzas]
        if any(_FOREIGN.search(text) and not re.search(r"(?i)^enabled\s*[:=]\s*(no|0)", text, re.M) for text in lines):
            yield f"/{path}"


def _archive(tree: Tree, codename: str) -> t.Iterator[driver_files.AptSource]:
    """Yield Debian's own entries in the package sources of apt, in both formats."""
    suites = {f"{name}{suffix}" for name in (codename, "stable") for suffix in ("", "-updates", "-security")}
    for source in _apt_sources(tree):
        if _DEBIAN_URI.search(source.uri) and source.suite in suites:
            yield source


def _apt_sources(tree: Tree) -> t.Iterator[driver_files.AptSource]:
    for path in (path for pattern in _SOURCES for path in tree.find(pattern)):
        if "kaido-gpu-driver" in path:
            continue
        text = re.sub(r"^#.*\n?|[ \t]#.*$", "", tree.text(path), flags=re.MULTILINE)
        if not path.endswith(".sources"):
            for options, uri, suite, components in _ONE_LINE.findall(text):
                signed = re.search(r"signed-by=(\S+)", options)
                yield driver_files.AptSource(uri, suite, tuple(components.split()), signed[1] if signed else "")
            continue
        for stanza in re.split(r"\n\s*\n", text):
            fields = {key.lower(): value for key, value in re.findall(r"^(\S+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.M)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        components = tuple(fields.get("components", "").split())
                        yield driver_files.AptSource(uri, suite, components, fields.get("signed-by", ""))


def differing(tree: Tree, plan: DriverPlan) -> list[driver_files.DriverFile]:
    """Return the files of the plan that are missing or different."""
    return [file for file in plan.files if not _is_there(tree, file)]


def _is_there(tree: Tree, file: driver_files.DriverFile) -> bool:
    path = tree.at(file.path)
    return (
        os.path.isfile(path)
        and tree.bytes(file.path) == file.content.encode()
        and stat.S_IMODE(os.stat(path).st_mode) == int(file.mode, 8)
    )


def stale(plan: DriverPlan, done: t.Mapping[str, t.Any]) -> list[str]:
    """Return the files of an earlier plan that this plan does not contain."""
    keep = {file.path for file in plan.files} | ({plan.key.path} if plan.key else set())
    return [path for path in done.get("files", []) if path not in keep]


def todo(
    tree: Tree, host: GpuHost, verdicts: t.Sequence[Verdict], plan: DriverPlan, done: t.Mapping[str, t.Any], run: Run
) -> dict[str, str]:
    """Return the missing steps in order, each with a human-readable reason."""
    steps: dict[str, str] = {}
    if plan.key and repository_key.fingerprints(tree.bytes(plan.key.path)) != [plan.key.fingerprint]:
        steps["key"] = f"{plan.key.path} does not contain the key {plan.key.fingerprint}"
    wrong = [file.path for file in differing(tree, plan)] + stale(plan, done)
    if wrong:
        steps["files"] = f"{', '.join(wrong)}: missing, different or obsolete"
    installed = packages(tree, plan.family, plan.packages, run)
    missing = [name for name in plan.packages if not installed.get(name, "").endswith(" ok installed")]
    if missing:
        steps["packages"] = f"not installed: {', '.join(missing)}"
    if plan.vendor == "nvidia" and plan.packages and not _is_built(tree, host, plan):
        steps["build"] = f"there is no module for kernel {plan.kernel}"
    steps.update(_holds(plan, done, [name for name, status in installed.items() if status.startswith("hold ")]))
    disabled = [name for name in plan.services if not tree.find(f"etc/systemd/system/*.wants/{name}")]
    if disabled:
        steps["services"] = f"not enabled: {', '.join(disabled)}"
    loadable = ("installed_not_loaded", "uvm_missing")
    if not plan.image and any(verdict.state in loadable and not verdict.reboot for verdict in verdicts):
        steps["load"] = "the module is not loaded"
    return steps


def _holds(plan: DriverPlan, done: t.Mapping[str, t.Any], held: t.Sequence[str]) -> dict[str, str]:
    missing = [name for name in plan.held if name not in held]
    obsolete = [name for name in released(plan, done) if name in held]
    texts = [f"not held: {', '.join(missing)}"] if missing else []
    texts += [f"still held: {', '.join(obsolete)}"] if obsolete else []
    return {"hold": "; ".join(texts)} if plan.family == "deb" and texts else {}


def released(plan: DriverPlan, done: t.Mapping[str, t.Any]) -> list[str]:
    """Return the packages that an earlier run has held and that this plan does not hold."""
    return [name for name in done.get("held", []) if name not in plan.held]


def new_packages(tree: Tree, plan: DriverPlan, run: Run) -> list[str]:
    """Return the packages of the plan that the host does not have in any state."""
    names = [*plan.repository_packages, *plan.packages]
    installed = packages(tree, plan.family, names, run)
    return [name for name in names if name not in installed]


def next_record(plan: DriverPlan, done: t.Mapping[str, t.Any], new: t.Sequence[str]) -> dict[str, t.Any]:
    """Return the content of the state file for this plan: the changes that removal reverts."""
    earlier = done.get("packages", [])
    keys = {*done.get("keys", []), *([plan.key.fingerprint] if plan.key else [])}
    return {
        "family": plan.family,
        "packages": [*earlier, *(name for name in new if name not in earlier)],
        "files": [file.path for file in plan.files] + ([plan.key.path] if plan.key else []),
        "held": plan.held,
        "keys": sorted(keys),
    }


def _is_built(tree: Tree, host: GpuHost, plan: DriverPlan) -> bool:
    """Return whether the module exists, and, if DKMS builds it, whether DKMS reports it as installed."""
    listed = any(f", {plan.kernel}, " in line and line.endswith(": installed") for line in host.nvidia.dkms)
    return module_path(tree.root, plan.kernel) is not None and (listed or not plan.dkms)
