# SPDX-License-Identifier: GPL-3.0-or-later
"""Add a release of Ollama to the table of checksums, from both places where upstream publishes them.

python -m scripts.add_release 0.40.2 [--sums FILE_OR_URL] [--api FILE_OR_URL]

The sha256sum.txt of the release and the digests of GitHub's API have to be equal for every archive; no archive is
downloaded. Without network access, pass files that were downloaded elsewhere.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from pathlib import Path

import yaml

TABLE = Path(__file__).resolve().parent.parent / "roles" / "ollama" / "vars" / "checksums.yml"
SUMS = "https://github.com/ollama/ollama/releases/download/v{version}/sha256sum.txt"
API = "https://api.github.com/repos/ollama/ollama/releases/tags/v{version}"
ARCHIVE = re.compile(r"ollama-linux-(amd64|arm64)(-[a-z0-9]+)?\.tar\.zst")
SHA256 = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"\d+\.\d+\.\d+")
REQUIRED = {"ollama-linux-amd64.tar.zst", "ollama-linux-arm64.tar.zst"}


class TableError(Exception):
    """The reason why the table is not changed, in one line."""


def read(place: str) -> str:
    """Return the text of a file or of an https:// URL."""
    if "://" not in place:
        return Path(place).read_text(encoding="utf-8")
    if not place.startswith("https://"):
        raise TableError(f"{place}: invalid place; expected https:// or a file")
    with urllib.request.urlopen(place, timeout=60) as answer:
        return str(answer.read(1 << 20).decode())


def from_sums(text: str) -> dict[str, str]:
    """Archive -> checksum, out of lines like `<hex>  ./<name>`."""
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return archives({name.strip().removeprefix("*").removeprefix("./"): checksum for checksum, name in pairs})


def from_api(text: str) -> dict[str, str]:
    """Archive -> checksum, out of a release of GitHub's API."""
    assets = json.loads(text)["assets"]
    return archives({asset["name"]: str(asset.get("digest") or "").removeprefix("sha256:") for asset in assets})


def archives(found: dict[str, str]) -> dict[str, str]:
    chosen = {name: checksum for name, checksum in found.items() if ARCHIVE.fullmatch(name)}
    for name, checksum in chosen.items():
        if not SHA256.fullmatch(checksum):
            raise TableError(f"{name}: invalid checksum {checksum!r}; expected 64 hexadecimal digits")
    return chosen


def agreed(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """Return the checksums that are equal in both sources; refuse archives of only one."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            raise TableError(
                f"{name}: checksums differ: {one.get(name)} in sha256sum.txt, {other.get(name)} in GitHub's API"
            )
    if missing := REQUIRED - set(one):
        raise TableError(f"{', '.join(sorted(missing))}: not in this release")
    return one


def add(text: str, version: str, sums: dict[str, str]) -> str:
    """Return the text of the table with the release added in order; existing entries are not changed."""
    table = yaml.safe_load(text)["ollama__checksums"]
    for name, checksum in table.get(version, {}).items():
        if sums.get(name) != checksum:
            raise TableError(f"{version}: checksum of {name} is {checksum} in the table, but {sums.get(name)} upstream")
    table[version] = {**table.get(version, {}), **sums}
    head = text[: text.index("ollama__checksums:")]
    lines = [f"{head}ollama__checksums:"]
    for known in sorted(table, key=lambda text: [int(part) for part in text.split(".")]):
        lines.append(f"  {known}:")
        lines += [f'    {name}: "{checksum}"' for name, checksum in sorted(table[known].items())]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.add_release", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--sums", default=SUMS, help="file or URL of sha256sum.txt")
    parser.add_argument("--api", default=API, help="file or URL of the release in GitHub's API")
    given = parser.parse_args(arguments)
    try:
        if not VERSION.fullmatch(given.version):
            raise TableError(f"invalid version {given.version!r}; expected for example 0.40.2")
        places = [place.replace("{version}", given.version) for place in (given.sums, given.api)]
        sums = agreed(from_sums(read(places[0])), from_api(read(places[1])))
        before = TABLE.read_text(encoding="utf-8")
        after = add(before, given.version, sums)
    except (TableError, OSError, ValueError, KeyError) as error:
        print(f"add_release: {error}", file=sys.stderr)
        return 1
    if after == before:
        print(f"{given.version} is already in the table")
        return 0
    TABLE.write_text(after, encoding="utf-8")
    print(f"added {given.version}: {', '.join(sorted(sums))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
