# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the Galaxy artifact with Galaxy's importer; its warnings are failures, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from scripts import tree
from scripts.dist import DIST

WORK = tree.ROOT / ".cache" / "importer"


def main() -> int:
    """Return 0 if the importer reports nothing."""
    (artifact,) = (DIST / "galaxy").glob("*.tar.gz")
    WORK.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", str(artifact)],
        cwd=WORK,  # the importer writes its result here
        env={**os.environ, "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, end="")
    findings = re.findall(r"^(?:WARNING|ERROR|CRITICAL)\b.*", done.stdout, re.MULTILINE)
    if findings:
        print(f"{artifact.name}: {len(findings)} findings, the first: {findings[0]}", file=sys.stderr)
    return int(bool(done.returncode or findings))


if __name__ == "__main__":
    sys.exit(main())
