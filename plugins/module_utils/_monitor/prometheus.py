# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of this collection and their text format. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import math
import re
import typing as t

from .._core.text import printable

PREFIX = "kaido_ollama_"
# Label values are from file names and from the network, so their length and number are limited, and control characters
# are escaped.
MAX_LABEL = 256
MAX_SERIES = 1000

# The types and help texts by name without the prefix.
CATALOGUE: dict[str, tuple[str, str]] = {
    "metrics_timestamp_seconds": ("gauge", "When these metrics were collected, seconds since the epoch."),
    "collector_success": ("gauge", "Whether a part of the metrics could be collected."),
    "up": ("gauge", "Whether the Ollama server answers."),
    "version_info": ("gauge", "The version of the running server."),
    "release_info": ("gauge", "The releases on the host; state is current or kept."),
    "loaded_models": ("gauge", "Number of models in memory."),
    "loaded_model_bytes": ("gauge", "Memory of a loaded model as reported by the server."),
    "loaded_model_vram_bytes": ("gauge", "GPU memory of a loaded model as reported by the server."),
    "loaded_model_vram_ratio": ("gauge", "Share of a loaded model that is in GPU memory, 0 to 1."),
    "loaded_model_expiry_timestamp_seconds": ("gauge", "When a loaded model is unloaded, seconds since the epoch."),
    "store_readable": ("gauge", "Whether the monitoring account can read the model store."),
    "store_free_bytes": ("gauge", "Free bytes of the file system of the model store, for unprivileged users."),
    "store_size_bytes": ("gauge", "Size of the file system of the model store."),
    "models": ("gauge", "Number of models in the store."),
    "model_bytes": ("gauge", "Size of a model in the store."),
    "model_damaged": ("gauge", "Whether a model is damaged, as far as known."),
    "blobs": ("gauge", "Number of blobs by state: verified, damaged or unverified."),
    "blob_bytes": ("gauge", "Bytes of the blobs by state: verified, damaged or unverified."),
    "partial_downloads": ("gauge", "Number of interrupted downloads in the store."),
    "partial_bytes": ("gauge", "Disk space of interrupted downloads."),
    "orphan_files": ("gauge", "Number of files in the store that no model needs."),
    "orphan_bytes": ("gauge", "Bytes of files in the store that no model needs."),
    "verification_timestamp_seconds": ("gauge", "When the last scheduled verification ended, 0 for never."),
    "verification_success": ("gauge", "Whether the last scheduled verification found no damage."),
    "verification_oldest_timestamp_seconds": (
        "gauge",
        "Last verification, or else first appearance, of the blob that is verified next.",
    ),
    "gpus": ("gauge", "Number of GPUs of the host."),
    "gpu_usable": ("gauge", "Whether Ollama can use a GPU."),
    "gpu_driver_mismatch": ("gauge", "Whether the loaded kernel driver and the installed libraries differ."),
    "gpu_utilization_ratio": ("gauge", "Utilization of a GPU, 0 to 1."),
    "gpu_memory_used_bytes": ("gauge", "GPU memory in use."),
    "gpu_memory_size_bytes": ("gauge", "GPU memory."),
    "gpu_temperature_celsius": ("gauge", "Temperature of a GPU."),
    "gpu_power_watts": ("gauge", "Power draw of a GPU."),
    "gpu_ecc_errors": ("gauge", "Memory errors of a GPU since the driver was loaded, corrected or uncorrected."),
    "cpu_fallback": ("gauge", "Whether the server computes on the CPU although a GPU is expected."),
    "reboot_pending": ("gauge", "Whether the host needs a reboot."),
    "converge_timestamp_seconds": ("gauge", "When Ansible last converged this host."),
    "converge_changes": ("gauge", "Number of changes of the last converge by part."),
    "gateway_up": ("gauge", "Whether the gateway of this host and a server behind it answer."),
    "gateway_connections": ("gauge", "Connections of clients to the gateway by state."),
    "gateway_requests_total": ("counter", "Requests to the gateway."),
    "gateway_queued_requests": ("gauge", "Requests that wait for a free server, by backend."),
    "gateway_active_servers": ("gauge", "Servers that answer, by backend."),
    "certificate_expiry_timestamp_seconds": ("gauge", "When the certificate of the gateway expires."),
}


class Metrics:
    """The values of the metrics. A series has one value, the last one."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def add(self, name: str, value: float, /, **labels: str | None) -> None:
        """Set the value of a series.

        :param name: a key of `CATALOGUE`.
        :raises KeyError: for other names.
        """
        CATALOGUE[name]
        series = self._values.setdefault(name, {})
        key = tuple((label, printable(str(text or ""))[:MAX_LABEL]) for label, text in labels.items())
        if key in series or len(series) < MAX_SERIES:
            series[key] = value

    def render(self) -> str:
        """Return the metrics in the text format of Prometheus, in the order of the catalogue."""
        lines = []
        for name, (kind, text) in CATALOGUE.items():
            if name in self._values:
                lines += [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]
                lines += [f"{PREFIX}{name}{_labels(key)} {_number(value)}" for key, value in self._values[name].items()]
        return "\n".join(lines) + "\n"


def _labels(key: t.Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{label}="{_escape(text)}"' for label, text in key) + "}" if key else ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def own_lines(text: str) -> str:
    """Return the lines about metrics of this collection."""
    lines = re.findall(rf"^(?:# (?:HELP|TYPE) )?{PREFIX}\w+[ {{].*$", text, re.MULTILINE)
    return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Parse the text format, and return the labels and values of the series by name. Invalid lines are ignored."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines():
        series, _space, value = line.strip().rpartition(" ")
        name, brace, rest = series.partition("{")
        if line.startswith("#") or not name:
            continue
        pairs = (pair.partition("=") for pair in rest.rstrip("}").split(",") if pair) if brace else ()
        try:
            found.setdefault(name, []).append(({key: text.strip('"') for key, _eq, text in pairs}, float(value)))
        except ValueError:
            continue
    return found
