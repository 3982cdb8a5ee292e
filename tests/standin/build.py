# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the stand-in into one executable file that takes the place of `ollama`: the same bytes every time.

python -m tests.standin.build --version 0.35.1 [--plain] OUT_FILE
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import zipfile

_LEFT_OUT = {"__main__.py", "build.py", "registry.py"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def archive(version: str, plain: bool = False) -> bytes:
    """Return the content: a zip archive after a shebang. `plain`: without STANDIN_ variables, like a real server."""
    sources = {
        f"standin/{path.name}": path.read_bytes()
        for path in sorted(pathlib.Path(__file__).parent.glob("*.py"))
        if path.name not in _LEFT_OUT
    }
    start = f"import sys\n\nfrom standin.cli import main\n\nsys.exit(main(sys.argv[1:], {version!r}))\n"
    if plain:
        start = f"import os\n\nos.environ['STANDIN_PLAIN'] = '1'\n{start}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in {"__main__.py": start.encode(), **sources}.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            out.writestr(info, data, zipfile.ZIP_DEFLATED)
    return b"#!/usr/bin/env python3\n" + buffer.getvalue()


def build(version: str, target: str | os.PathLike[str], plain: bool = False) -> None:
    path = pathlib.Path(target)
    path.write_bytes(archive(version, plain))
    path.chmod(0o755)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True)
    parser.add_argument("--plain", action="store_true", help="know no STANDIN_ variable, and give other numbers")
    parser.add_argument("target")
    given = parser.parse_args()
    build(given.version, given.target, given.plain)
