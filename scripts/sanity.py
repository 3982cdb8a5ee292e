# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `ansible-test sanity` on a copy of the working tree; it downloads only pinned packages of the Python index.

ansible-test requires a path that ends in ansible_collections/kaido/ollama and refuses symbolic links, hence the copy.
Its home is in .cache: it contains the virtual environments that make a second run fast.
All tests run, including pylint; shellcheck only where that program is installed, and a test whose requirements have
the address of an archive outside of the index only where that can be downloaded.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from scripts import tree

CACHE = tree.ROOT / ".cache" / "sanity"
COLLECTION = CACHE / "ansible_collections" / "kaido" / "ollama"

# The start of a line that names a test that is not run.
SKIPPED = "sanity: not run: "

# In place of the script that ansible-test downloads to install pip: Python includes pip.
GET_PIP = """\
import runpy
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
sys.argv[1:] = ["install", *(a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
"""


def pip_settings() -> str:
    """The user's pip settings (indexes, certificates), which ansible-test does not pass on."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    # Those of the environment, :env:, have priority; they are sorted before global.
    found = re.findall(r"^(?:global|:env:)\.([\w-]+)=('.*')$", listed, re.MULTILINE)
    settings = {key: ast.literal_eval(value) for key, value in reversed(found)}
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in {**settings, "quiet": "1"}.items()), ""])


def ansible_test() -> Path:
    """The package of ansible-test."""
    spec = importlib.util.find_spec("ansible_test")
    (package,) = (spec.submodule_search_locations or []) if spec else []
    return Path(package)


def pip_versions() -> list[str]:
    """The versions of pip that this ansible-test installs: the names of its cached scripts contain them."""
    source = ansible_test() / "_internal" / "python_requirements.py"
    return re.findall(r"\bpip='([\d.]+)'", source.read_text(encoding="utf-8"))


def is_available(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20):
            return True
    except OSError:
        return False


def unavailable(requirements: Path) -> dict[str, str]:
    """The tests that cannot run here, with the address of the archive that cannot be downloaded."""
    found = {}
    for path in sorted(requirements.glob("sanity.*.txt")):
        urls = re.findall(r"@ (https?://\S+)", path.read_text(encoding="utf-8"))
        found.update({path.name.split(".")[1]: url for url in urls if not is_available(url)})
    return found


def main(arguments: list[str]) -> int:
    """Run all tests, or those of the arguments, such as --test import --target-python 3.8."""
    tree.copy(COLLECTION)
    # Without a repository of the copy, ansible-test uses the surrounding one, which ignores .cache, and tests no file.
    subprocess.run(["git", "init", "--quiet", str(COLLECTION)], check=True)
    home = CACHE / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in pip_versions():
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    pip_conf = home / ".config" / "pip" / "pip.conf"
    pip_conf.parent.mkdir(parents=True, exist_ok=True)
    pip_conf.write_text(pip_settings())
    command = [str(Path(sys.executable).parent / "ansible-test"), "sanity", "--color", "no"]
    command += ["--controller", "origin:python=default"]
    if "--target-python" not in arguments:
        # By default it selects every python3.x that it finds, and fails on those that pyenv lists but does not enable.
        command += ["--target-python", "default"]
    if "--test" not in arguments:
        for test, url in unavailable(ansible_test() / "_data" / "requirements").items():
            print(f"{SKIPPED}{test}: {url} cannot be downloaded", flush=True)
            command += ["--skip-test", test]
    return subprocess.run(
        [*command, *arguments],
        cwd=COLLECTION,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
