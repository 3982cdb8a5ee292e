# SPDX-License-Identifier: GPL-3.0-or-later
"""Run unit tests, sanity and scenario default on the supported versions of ansible-core; print the table of the README.

`python -m scripts.matrix [VERSION…] [TEST…]`; environments are in .cache/matrix. A version without a suitable Python or
package is printed as `not run` with the reason. The exit status is 1 if a test that was run has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scripts import sanity, tree

CACHE = tree.ROOT / ".cache" / "matrix"
# Packages for the tests; their versions are those of requirements/dev.txt.
PACKAGES = (
    "docker", "hypothesis", "jsonschema", "molecule", "pytest", "pytest-testinfra", "pytest-xdist", "requests",
    "yamllint",
)  # fmt: skip
TESTS = ("units", "sanity", "default")


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

    @property
    def has_failed(self) -> bool:
        return any(result.startswith("FAIL") for result in self.results.values())


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


def installed(version: Version) -> tuple[str, str]:
    """The exact versions of ansible-core and Python in an environment."""
    code = "import platform; from ansible.release import __version__; print(__version__, platform.python_version())"
    core, python = run([str(CACHE / version.name / "bin" / "python"), "-c", code]).stdout.split()
    return core, python


def commands(version: Version) -> dict[str, list[str]]:
    """The command of each test."""
    python = str(CACHE / version.name / "bin" / "python")
    molecule = str(CACHE / version.name / "bin" / "molecule")
    cache = f"cache_dir=.cache/matrix/{version.name}/pytest"
    return {
        "units": [python, "-m", "pytest", "--quiet", "-o", cache, "--numprocesses", "4", "tests/unit"],
        "sanity": [python, "-m", "scripts.sanity"],
        "default": [molecule, "test", "--scenario-name", "default"],
    }


def result(status: int, output: str) -> str:
    """The result of a test: its exit status, and which parts of it were not run."""
    if status:
        return f"FAIL (exit {status})"
    skipped = re.findall(rf"^{re.escape(sanity.SKIPPED)}(\S+):", output, re.MULTILINE)
    return f"pass, without {', '.join(skipped)}" if skipped else "pass"


def examine(version: Version, tests: tuple[str, ...]) -> Row:
    """Run tests of a version."""
    found = ((name, find_python(name)) for name in version.pythons)
    name, python = next(((name, path) for name, path in found if path), ("", None))
    if not python:
        wanted = " or ".join(version.pythons)
        return Row(version.name, "-", dict.fromkeys(tests, f"not run: no Python {wanted}"))
    reason = prepare(version, python)
    if reason:
        return Row(version.name, name, dict.fromkeys(tests, f"not run: {reason}"))
    results = {}
    folder = CACHE / version.name
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPYCACHEPREFIX": str(folder / "pycache"),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "molecule"),
    }
    for test in tests:
        log = folder / f"{test}.log"
        print(f"=== ansible-core {version.name}: {test}; output in {log.relative_to(tree.ROOT)}", flush=True)
        done = run(commands(version)[test], log, **environment)
        results[test] = result(done.returncode, done.stdout)
    return Row(*installed(version), results)


def table(rows: list[Row]) -> str:
    """The table in Markdown, as the README shows it."""
    tests = list(rows[0].results)
    lines = [f"| ansible-core | Python | {' | '.join(tests)} |", "|---|---|" + "---|" * len(tests)]
    lines += [f"| {row.version} | {row.python} | {' | '.join(row.results.values())} |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    names = [version.name for version in VERSIONS]
    unknown = [name for name in arguments if name not in [*names, *TESTS]]
    if unknown:
        print(f"matrix: invalid value {unknown[0]}; expected {', '.join([*names, *TESTS])}", file=sys.stderr)
        return 2
    CACHE.mkdir(parents=True, exist_ok=True)
    tests = tuple(test for test in TESTS if test in arguments) or TESTS
    versions = [version for version in VERSIONS if version.name in arguments] or VERSIONS
    rows = [examine(version, tests) for version in versions]
    print(time.strftime("%Y-%m-%d", time.gmtime()), table(rows), sep="\n\n")
    return int(any(row.has_failed for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
