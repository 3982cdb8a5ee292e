# SPDX-License-Identifier: GPL-3.0-or-later
"""Introspect meta/execution-environment.yml with ansible-builder: `make execution-environment`.

The collection must add no package to an execution environment. The same introspection of a copy with a dependency must
find it, which proves that the definition is read. Runs in the environment of requirements/docs.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEFINITION = Path("meta", "execution-environment.yml")
FOUND = "kaido-ollama-test-package"
WITH_DEPENDENCY = {"dependencies": {"python": "packages.txt", "system": "packages.txt"}}


def introspect(definition: str) -> dict[str, list[str]]:
    """Return the Python and system packages that ansible-builder installs for a definition."""
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder, "ansible_collections", "kaido", "ollama")
        (collection / "meta").mkdir(parents=True)
        (collection / "galaxy.yml").write_text((ROOT / "galaxy.yml").read_text())
        (collection / DEFINITION).write_text(definition)
        (collection / "packages.txt").write_text(f"{FOUND}\n")
        command = [str(Path(sys.executable).parent / "ansible-builder"), "introspect", folder]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    packages: dict[str, list[str]] = yaml.safe_load(printed)
    return packages


def main() -> int:
    """Compare both results with what is expected."""
    own = introspect((ROOT / DEFINITION).read_text())
    if own != {"python": [], "system": []}:
        print(f"{DEFINITION}: invalid dependencies {own}; expected none", file=sys.stderr)
        return 1
    control = introspect(yaml.safe_dump(WITH_DEPENDENCY))
    if not all(FOUND in str(control[kind]) for kind in ("python", "system")):
        print(f"ansible-builder does not read {DEFINITION}: {control}", file=sys.stderr)
        return 1
    print(f"{DEFINITION}: no packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
