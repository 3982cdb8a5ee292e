# SPDX-License-Identifier: GPL-3.0-or-later
"""Add the SPDX line to source files that lack it; REUSE.toml states the license of all other files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# REUSE-IgnoreStart
LINE = "SPDX-License-Identifier: GPL-3.0-or-later"
# REUSE-IgnoreEnd
# Suffix -> start of a comment.
COMMENTS = {".py": "#", ".sh": "#", ".lua": "--"}


def missing() -> list[Path]:
    """The tracked source files without the line in their first lines; empty files need none."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if Path(name).suffix in COMMENTS]
    return [path for path in paths if path.is_file() and path.stat().st_size and not has_line(path.read_text("utf-8"))]


def has_line(text: str) -> bool:
    return LINE in "\n".join(text.splitlines()[:6])


def with_line(text: str, comment: str) -> str:
    """Return a text with the line at its beginning, after the line of an interpreter."""
    first, newline, rest = text.partition("\n")
    head = first + newline if first.startswith("#!") else ""
    return f"{head}{comment} {LINE}\n{rest if head else text}"


def main(arguments: list[str]) -> None:
    """Change the files of the arguments, or all."""
    chosen = {Path(name).resolve() for name in arguments}
    for path in missing():
        if not chosen or path in chosen:
            path.write_text(with_line(path.read_text("utf-8"), COMMENTS[path.suffix]), encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
