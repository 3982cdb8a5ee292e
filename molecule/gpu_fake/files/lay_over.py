# SPDX-License-Identifier: GPL-3.0-or-later
"""Make this container look like the host of a fixture: lay_over.py FIXTURE.json."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path("/srv/fake")
# What of the kernel's own file systems gpu_info reads, and where nothing can be written.
COVERED = ("/sys/bus/pci/devices", "/sys/module", "/proc/driver")
COPIED = ("/dev/nvidia", "/usr/lib/x86_64-linux-gnu/lib")


def main() -> None:
    """Undo what was laid over before, then lay this over."""
    tree = json.loads(pathlib.Path(sys.argv[1]).read_text())["tree"]
    for folder in COVERED:
        subprocess.run(["umount", "--quiet", folder], check=False)
    shutil.rmtree(HERE / "tree", ignore_errors=True)
    for name in COVERED:
        (HERE / f"tree{name}").mkdir(parents=True)
    for name, content in tree.items():
        if name.startswith(COVERED):
            put(HERE / f"tree{name}", content)
        elif name.startswith(COPIED):
            put(pathlib.Path(name), content)
    for folder in COVERED:
        subprocess.run(["mount", "--bind", f"{HERE}/tree{folder}", folder], check=True)


def put(path: pathlib.Path, content: object) -> None:
    """Write one entry of a fixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict) and "symlink" in content:
        path.symlink_to(content["symlink"])
    else:
        path.touch()
        path.chmod(0o666)


main()
