# SPDX-License-Identifier: GPL-3.0-or-later
"""Run unit tests, sanity and scenario default on the supported versions of ansible-core; print the table of the README.

`python -m scripts.matrix [CORE…] [PYTHON…] [TEST…]`, for example `2.21 3.13 units`; without arguments all pairs and
tests. Environments are in .cache/matrix. A pair without its Python or packages is printed as `not run` with the reason.
The exit status is 1 if a test that was run has failed.
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


# The package of each version of ansible-core, and the versions of Python that its controller supports.
VERSIONS = {
    "2.16": ("ansible-core~=2.16.0", ("3.11", "3.12")),
    "2.19": ("ansible-core~=2.19.0", ("3.11", "3.12", "3.13")),
    "2.21": ("ansible-core~=2.21.0", ("3.12", "3.13")),
    # The release candidate, until the final version replaces it.
    "2.22": ("ansible-core>=2.22.0rc1,<2.23", ("3.13",)),
}


@dataclass(frozen=True)
class Pair:
    """A version of ansible-core on a version of Python."""

    core: str
    python: str

    @property
    def folder(self) -> Path:
        """The folder of its environment and logs."""
        return CACHE / f"{self.core}-{self.python}"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"


PAIRS = tuple(Pair(core, python) for core, (_requirement, pythons) in VERSIONS.items() for python in pythons)


@dataclass
class Row:
    """The results of one pair."""

    core: str
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


def prepare(pair: Pair, python: str) -> str | None:
    """Create the environment of a pair if it is missing; return the reason of a failure."""
    requirements = "\n".join([VERSIONS[pair.core][0], *pins(PACKAGES)])
    stamp = pair.folder / ".stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == requirements:
        return None
    shutil.rmtree(pair.folder, ignore_errors=True)
    done = run([python, "-m", "venv", str(pair.folder)])
    if done.returncode == 0:
        pip = [str(pair.bin / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = run([*pip, *requirements.splitlines()])
    if done.returncode:
        return (done.stdout.strip().splitlines() or ["no environment"])[-1]
    stamp.write_text(requirements, encoding="utf-8")
    return None


def installed(pair: Pair) -> tuple[str, str]:
    """The exact versions of ansible-core and Python in an environment."""
    code = "import platform; from ansible.release import __version__; print(__version__, platform.python_version())"
    core, python = run([str(pair.bin / "python"), "-c", code]).stdout.split()
    return core, python


def commands(pair: Pair) -> dict[str, list[str]]:
    """The command of each test."""
    python = str(pair.bin / "python")
    cache = f"cache_dir={pair.folder.relative_to(tree.ROOT)}/pytest"
    return {
        "units": [python, "-m", "pytest", "--quiet", "-o", cache, "--numprocesses", "4", "tests/unit"],
        "sanity": [python, "-m", "scripts.sanity"],
        "default": [str(pair.bin / "molecule"), "test", "--scenario-name", "default"],
    }


def result(status: int, output: str) -> str:
    """The result of a test: its exit status, and which parts of it were not run."""
    if status:
        return f"FAIL (exit {status})"
    skipped = re.findall(rf"^{re.escape(sanity.SKIPPED)}(\S+):", output, re.MULTILINE)
    return f"pass, without {', '.join(skipped)}" if skipped else "pass"


def examine(pair: Pair, tests: tuple[str, ...]) -> Row:
    """Run tests of a pair."""
    python = find_python(pair.python)
    reason = prepare(pair, python) if python else f"no Python {pair.python}"
    if reason:
        return Row(pair.core, pair.python, dict.fromkeys(tests, f"not run: {reason}"))
    environment = {
        "PATH": f"{pair.bin}:{os.environ['PATH']}",
        "PYTHONPYCACHEPREFIX": str(pair.folder / "pycache"),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(pair.folder / "molecule"),
    }
    results = {}
    for test in tests:
        log = pair.folder / f"{test}.log"
        where = log.relative_to(tree.ROOT)
        print(f"=== ansible-core {pair.core}, Python {pair.python}: {test}; output in {where}", flush=True)
        done = run(commands(pair)[test], log, **environment)
        results[test] = result(done.returncode, done.stdout)
    return Row(*installed(pair), results)


def table(rows: list[Row]) -> str:
    """The table in Markdown, as the README shows it."""
    tests = list(rows[0].results)
    lines = [f"| ansible-core | Python | {' | '.join(tests)} |", "|---|---|" + "---|" * len(tests)]
    lines += [f"| {row.core} | {row.python} | {' | '.join(row.results.values())} |" for row in rows]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    pythons = sorted({pair.python for pair in PAIRS})
    known = [*VERSIONS, *pythons, *TESTS]
    unknown = [name for name in arguments if name not in known]
    if unknown:
        print(f"matrix: invalid value {unknown[0]}; expected {', '.join(known)}", file=sys.stderr)
        return 2
    tests, cores, versions = (
        [name for name in names if name in arguments] or names for names in (TESTS, tuple(VERSIONS), tuple(pythons))
    )
    pairs = [pair for pair in PAIRS if pair.core in cores and pair.python in versions]
    if not pairs:
        print(f"matrix: ansible-core {cores[0]} does not support Python {versions[0]}", file=sys.stderr)
        return 2
    CACHE.mkdir(parents=True, exist_ok=True)
    rows = [examine(pair, tuple(tests)) for pair in pairs]
    print(time.strftime("%Y-%m-%d", time.gmtime()), table(rows), sep="\n\n")
    return int(any(row.has_failed for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
