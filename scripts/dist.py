# SPDX-License-Identifier: GPL-3.0-or-later
"""Build both artifacts: dist/ has the collection, dist/galaxy/ the variant for Galaxy.

Galaxy refuses roles whose name starts with a digit: in its artifact, role 17_ollama has the name server. The first
artifact has the files of a plain `ansible-galaxy collection build` in a clean clone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from scripts import tree

DIST = tree.ROOT / "dist"
NUMBERED = "17_ollama"
FOR_GALAXY = "server"


def rename_for_galaxy(source: Path) -> None:
    """Rename the role whose name starts with a digit: its folder, and its name in playbooks and pages."""
    (source / "roles" / NUMBERED).rename(source / "roles" / FOR_GALAXY)
    for path in [*source.rglob("*.yml"), *source.rglob("*.md")]:
        path.write_text(path.read_text().replace(f"kaido.ollama.{NUMBERED}", f"kaido.ollama.{FOR_GALAXY}"))


def build(source: Path, target: Path) -> None:
    """Build the collection in `source` to the folder `target`."""
    own = Path(sys.executable).parent / "ansible-galaxy"
    program = str(own) if own.exists() else shutil.which("ansible-galaxy")
    if not program:
        raise SystemExit("dist: ansible-galaxy is not installed; install ansible-core, or run make .venv/.stamp")
    command = [program, "collection", "build", str(source), "--output-path", str(target), "--force"]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise SystemExit(f"dist: ansible-galaxy failed: {exc}") from None


def main() -> None:
    """Build from a copy of the tracked files and of those that git would add."""
    shutil.rmtree(DIST, ignore_errors=True)
    source = tree.ROOT / ".cache" / "dist"
    tree.copy(source)
    build(source, DIST)
    rename_for_galaxy(source)
    build(source, DIST / "galaxy")


if __name__ == "__main__":
    main()
