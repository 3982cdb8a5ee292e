"""Run `ansible-test sanity` on a copy of the working tree; only pinned packages from the Python index are fetched.

ansible-test insists on a path ending in ansible_collections/kaido/ollama and refuses a symbolic link, hence the copy.
Its home is put into .cache: there it keeps the virtual environments that make a second run fast.
No test is left out, pylint included; shellcheck runs where that program is installed (its package brings a binary).
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts import tree

CACHE = tree.ROOT / ".cache" / "sanity"
COLLECTION = CACHE / "ansible_collections" / "kaido" / "ollama"

# ansible-test bootstraps pip by a script from ci-files.testing.ansible.com; Python comes with one as well.
GET_PIP = """\
import runpy
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
sys.argv[1:] = ["install", *(a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
"""


def pip_settings() -> str:
    """The user's pip settings (indexes, certificates): ansible-test hides them, as it does the environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    # The environment's, named :env:, win: they sort before global.
    found = re.findall(r"^(?:global|:env:)\.([\w-]+)=('.*')$", listed, re.MULTILINE)
    settings = {key: ast.literal_eval(value) for key, value in reversed(found)}
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in {**settings, "quiet": "1"}.items()), ""])


def main(arguments: list[str]) -> int:
    """Run all tests, or what the arguments ask for: --test import --target-python 3.8, where that Python exists."""
    tree.copy(COLLECTION)
    # Without a repository of its own, ansible-test asks the one around it, which ignores .cache: it would test nothing.
    subprocess.run(["git", "init", "--quiet", str(COLLECTION)], check=True)
    home = CACHE / "home"
    get_pip = home / ".ansible" / "test" / "cache" / "get_pip_24_2.py"
    get_pip.parent.mkdir(parents=True, exist_ok=True)
    get_pip.write_text(GET_PIP)
    pip_conf = home / ".config" / "pip" / "pip.conf"
    pip_conf.parent.mkdir(parents=True, exist_ok=True)
    pip_conf.write_text(pip_settings())
    command = [str(Path(sys.executable).parent / "ansible-test"), "sanity", "--color", "no"]
    command += ["--controller", "origin:python=default"]
    if "--target-python" not in arguments:
        # Its own choice is every python3.x it finds, and it fails on one that pyenv shows but has switched off.
        command += ["--target-python", "default"]
    return subprocess.run(
        [*command, *arguments],
        cwd=COLLECTION,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
