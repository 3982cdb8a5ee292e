# SPDX-License-Identifier: GPL-3.0-or-later
"""Run unit tests and sanity tests on the supported versions of ansible-core, and print the table of the README.

`python -m scripts.matrix [VERSION…]`; environments are in .cache/matrix. A version without a suitable Python or package
is printed as `not run` with the reason. The exit status is 1 if a test that was run has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts import tree

CACHE = tree.ROOT / ".cache" / "matrix"
# Packages for the unit tests; their versions are those of requirements/dev.txt.
PACKAGES = ("hypothesis", "jsonschema", "pytest", "pytest-testinfra", "pytest-xdist", "docker", "requests", "yamllint")
TESTS = ("units", "sanity")


@dataclass(frozen=True)
class Version:
    """A version of ansible-core, and the Python versions of its controller that are tried, the preferred one first."""

    name: str
    requirement: str
    pythons: tuple[str, ...]


VERSIONS = (
    Version("2.16", "ansible-core~=2.16.0", ("3.11", "3.12")),
    Version("2.19", "ansible-core~=2.19.0", ("3.11", "3.12", "3.13")),
    Version("2.21", "ansible-core~=2.21.0", ("3.13", "3.12")),
    # The release candidate, until the final version replaces it.
    Version("2.22", "ansible-core>=2.22.0rc1,<2.23", ("3.13",)),
)


@dataclass
class Row:
    """The results of one version."""

    version: str
    python: str
    results: dict[str, str]


def find_python(version: str) -> str | None:
    """The path of a Python of that version: in PATH, or installed by pyenv or uv."""
    candidates = [shutil.which(f"python{version}")]
    home = Path.home()
    for pattern in (
        f".pyenv/versions/{version}.*/bin/python",
        f".local/share/uv/python/cpython-{version}.*/bin/python",
    ):
        candidates += [str(path) for path in sorted(home.glob(pattern))]
    check = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != ({version.replace('.', ', ')}))"
    for candidate in filter(None, candidates):
        if run([candidate, "-c", check]).returncode == 0:
            return candidate
    return None


def run(command: list[str], log: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=tree.ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if log:
        log.write_text(done.stdout, encoding="utf-8")
    return done


def pins(names: tuple[str, ...]) -> list[str]:
    """The pinned requirements of packages, for example `pytest==9.0.1`."""
    text = (tree.ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    return [re.search(rf"^{re.escape(name)}==[^\s;]+", text, re.MULTILINE)[0] for name in names]  # type: ignore[index]


def prepare(version: Version, python: str) -> str | None:
    """Create the environment of a version if it is missing; return the reason of a failure."""
    environment = CACHE / version.name
    requirements = "\n".join([version.requirement, *pins(PACKAGES)])
    stamp = environment / ".stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == requirements:
        return None
    shutil.rmtree(environment, ignore_errors=True)
    done = run([python, "-m", "venv", str(environment)])
    if done.returncode == 0:
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = run([*pip, *requirements.splitlines()])
    if done.returncode:
        return (done.stdout.strip().splitlines() or ["no environment"])[-1]
    stamp.write_text(requirements, encoding="utf-8")
    return None


def commands(version: Version) -> dict[str, list[str]]:
    python = str(CACHE / version.name / "bin" / "python")
    cache = f"cache_dir=.cache/matrix/{version.name}/pytest"
    return {
        "units": [python, "-m", "pytest", "--quiet", "-o", cache, "--numprocesses", "4", "tests/unit"],
        "sanity": [python, "-m", "scripts.sanity"],
    }


def examine(version: Version) -> Row:
    """Run the tests of a version."""
    found = ((name, find_python(name)) for name in version.pythons)
    name, python = next(((name, path) for name, path in found if path), ("", None))
    if not python:
        wanted = " or ".join(version.pythons)
        return Row(version.name, "-", dict.fromkeys(TESTS, f"not run: no Python {wanted}"))
    reason = prepare(version, python)
    if reason:
        return Row(version.name, name, dict.fromkeys(TESTS, f"not run: {reason}"))
    results = {}
    for test, command in commands(version).items():
        log = CACHE / version.name / f"{test}.log"
        print(f"=== ansible-core {version.name}: {test}; output in {log.relative_to(tree.ROOT)}", flush=True)
        path = f"{CACHE / version.name / 'bin'}:{os.environ['PATH']}"
        status = run(command, log, PATH=path, PYTHONPYCACHEPREFIX=str(CACHE / version.name / "pycache")).returncode
        results[test] = "pass" if status == 0 else f"FAIL (exit {status})"
    return Row(version.name, name, results)


def table(rows: list[Row]) -> str:
    """The table in Markdown, as the README shows it."""
    lines = [f"| ansible-core | Python | {' | '.join(TESTS)} |", "|---|---|" + "---|" * len(TESTS)]
    lines += [f"| {row.version} | {row.python} | {' | '.join(row.results[test] for test in TESTS)} |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    names = [version.name for version in VERSIONS]
    unknown = [name for name in arguments if name not in names]
    if unknown:
        print(f"matrix: invalid version {unknown[0]}; expected {', '.join(names)}", file=sys.stderr)
        return 2
    CACHE.mkdir(parents=True, exist_ok=True)
    rows = [examine(version) for version in VERSIONS if version.name in (arguments or names)]
    print(table(rows))
    return int(any(result.startswith("FAIL") for row in rows for result in row.results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
