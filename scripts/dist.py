"""Build both artifacts: dist/ holds the whole collection, dist/galaxy/ what Galaxy accepts.

Galaxy refuses a role whose name starts with a digit: there, the role 17_ollama is called server.
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
    """Give the numbered role its other name, in its folder and wherever playbooks and pages call it."""
    (source / "roles" / NUMBERED).rename(source / "roles" / FOR_GALAXY)
    for path in [*source.rglob("*.yml"), *source.rglob("*.md")]:
        path.write_text(path.read_text().replace(f"kaido.ollama.{NUMBERED}", f"kaido.ollama.{FOR_GALAXY}"))


def build(source: Path, target: Path) -> None:
    """Build what lies in `source` into the folder `target`."""
    command = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection", "build", str(source)]
    subprocess.run([*command, "--output-path", str(target)], stdin=subprocess.DEVNULL, check=True)


def main() -> None:
    """Build from a copy, so that only what git knows or would add can get in."""
    shutil.rmtree(DIST, ignore_errors=True)
    source = tree.ROOT / ".cache" / "dist"
    tree.copy(source)
    build(source, DIST)
    rename_for_galaxy(source)
    build(source, DIST / "galaxy")


if __name__ == "__main__":
    main()
