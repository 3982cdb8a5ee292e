"""Put the Galaxy artifact through Galaxy's own importer, and fail on its warnings as well."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from scripts import tree
from scripts.dist import DIST

WORK = tree.ROOT / ".cache" / "importer"


def main() -> int:
    """0 if the importer has nothing to object to."""
    (artifact,) = (DIST / "galaxy").glob("*.tar.gz")
    WORK.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", str(artifact)],
        cwd=WORK,  # it leaves its result here
        env={**os.environ, "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout, end="")
    objections = re.findall(r"^(?:WARNING|ERROR|CRITICAL)\b.*", done.stdout, re.MULTILINE)
    if objections:
        print(f"{artifact.name}: {len(objections)} objections, the first: {objections[0]}", file=sys.stderr)
    return int(bool(done.returncode or objections))


if __name__ == "__main__":
    sys.exit(main())
