# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the state of the machine as JSON when everything has started.

It has the boot, the kernel modules, the units, the release and the models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import urllib.request

MODELS = pathlib.Path("/srv/models")
DRIVERS = pathlib.Path("/sys/bus/pci/devices").glob("*/driver")


def output(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip()


def read(path: str) -> str:
    with contextlib.suppress(OSError):
        return pathlib.Path(path).read_text().strip()
    return ""


def version() -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:11434/api/version") as answer:
        return str(json.load(answer)["version"])
    return ""


system = output("systemctl", "is-system-running", "--wait")
files = [*MODELS.glob("blobs/*"), *MODELS.glob("manifests/*/*/*/*")]
state = {
    "boot": read("/proc/sys/kernel/random/boot_id"),
    "system": system,
    "units": output("systemctl", "is-active", "ollama.service", "srv-models.mount").split(),
    "version": version(),
    "current": os.path.basename(os.path.realpath("/opt/ollama/current")),
    "models": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    "entries": sorted(path.name for path in MODELS.iterdir()),
    "kernel": os.uname().release,
    "built_for": output("/usr/sbin/modinfo", "--field", "vermagic", "nvidia-current").partition(" ")[0],
    "modules": [name for name in ("nvidia", "nvidia_uvm", "nouveau") if os.path.exists(f"/sys/module/{name}")],
    "drivers": [driver.resolve().name for driver in DRIVERS],
}
print(json.dumps(state))
