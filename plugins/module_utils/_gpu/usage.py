# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of each GPU, as its driver reports them: utilization, memory, temperature, power, ECC errors.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import glob
import os
import re
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .facts import Gpu
from .tree import Run

_SMI = (
    "pci.bus_id,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,"
    "ecc.errors.corrected.volatile.total,ecc.errors.uncorrected.volatile.total"
)
# Metric and factor from the unit of nvidia-smi, in the order of _SMI.
_NVIDIA = (
    ("utilization_ratio", 0.01),
    ("memory_used_bytes", 1 << 20),
    ("memory_size_bytes", 1 << 20),
    ("temperature_celsius", 1),
    ("power_watts", 1),
)
# Metric, file of the kernel driver, so that no tool is required, and factor. The last file that exists counts.
_AMD = (
    ("utilization_ratio", "gpu_busy_percent", 1e-2),
    ("memory_used_bytes", "mem_info_vram_used", 1),
    ("memory_size_bytes", "mem_info_vram_total", 1),
    ("temperature_celsius", "hwmon/hwmon*/temp1_input", 1e-3),
    ("power_watts", "hwmon/hwmon*/power1_input", 1e-6),
    ("power_watts", "hwmon/hwmon*/power1_average", 1e-6),
)


@dataclass
class Usage:
    """The metrics of one GPU; those that it does not provide are missing.

    :ivar gpu: PCI address.
    :ivar figures: utilization_ratio, memory_used_bytes, memory_size_bytes, temperature_celsius, power_watts.
    :ivar ecc_errors: numbers of corrected and uncorrected errors since the driver was loaded.
    """

    gpu: str
    figures: dict[str, float] = field(default_factory=dict)
    ecc_errors: dict[str, int] = field(default_factory=dict)


def read(gpus: t.Iterable[Gpu], root: str, run: Run) -> list[Usage]:
    """Return the metrics of NVIDIA GPUs, from nvidia-smi, and of AMD GPUs, from sysfs.

    :param root: the root of the host's file system.
    :raises OllamaError: ``nvidia_smi_failed`` if the program fails.
    """
    found = list(gpus)
    rows = _nvidia(run) if any(gpu.vendor == "nvidia" for gpu in found) else []
    for gpu in found:
        if gpu.vendor == "amd" and gpu.pci_address:
            rows.append(_amd(gpu.pci_address, os.path.join(root, "sys/bus/pci/devices", gpu.pci_address)))
    return rows


def _nvidia(run: Run) -> list[Usage]:
    answer = run(["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits"])
    if answer is None:
        return []
    if answer[0] != 0:
        raise OllamaError("nvidia_smi_failed", f"nvidia-smi: {answer[1].strip()[:200]}")
    rows = []
    for line in answer[1].splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != len(_SMI.split(",")):
            continue
        # nvidia-smi prints 00000000:01:00.0: a domain of eight digits, in upper case. A missing metric is [N/A].
        row = Usage(values[0].lower()[-12:])
        for (name, unit), text in zip(_NVIDIA, values[1:6]):
            value = _float(text)
            if value is not None:
                row.figures[name] = value * unit
        for kind, text in zip(("corrected", "uncorrected"), values[6:]):
            count = _float(text)
            if count is not None:
                row.ecc_errors[kind] = int(count)
        rows.append(row)
    return rows


def _amd(gpu: str, folder: str) -> Usage:
    row = Usage(gpu)
    for name, pattern, unit in _AMD:
        for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
            value = _float(_text(path))
            if value is not None:
                row.figures[name] = value * unit
    for kind, label in (("ce", "corrected"), ("ue", "uncorrected")):
        found = re.search(rf"^{kind}: (\d+)", _text(os.path.join(folder, "ras/umc_err_count")), re.MULTILINE)
        if found:
            row.ecc_errors[label] = int(found[1])
    return row


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
