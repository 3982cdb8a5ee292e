# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: create the lab, converge it over SSH with a user's playbook and inventory, and print the next steps."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from . import CACHE, PROJECT, say
from .lab import Lab, Wanted, shown, stage

HOSTS = {"hecate": "debian12", "dev1": "debian13"}
MODELS = Path(__file__).with_name("demo.yml")


def run(name: str) -> int:
    lab = Lab(name)
    lab.up(Wanted(HOSTS))
    play = Path(sys.executable).with_name("ansible-playbook")
    paths = (play, lab.inventory, MODELS, PROJECT / "playbooks" / "site.yml")
    command = [str(paths[0]), "-i", str(paths[1]), "-i", str(paths[2]), str(paths[3])]
    printed = shlex.join(part.removeprefix(f"{PROJECT}/") for part in command)
    say(f"\ndemo: {printed}")
    with stage("converge"):
        done = subprocess.run(command, cwd=PROJECT, env={**os.environ, **environment()}, check=False)
    if done.returncode:
        say(f"demo: the play failed (exit status {done.returncode}); see above. Run it again to continue")
        return done.returncode
    say("\nTry next:")
    say(f"  ssh -F {shown(lab.ssh_config)} hecate    # log in, then run: ollama list")
    say(f"  {printed}    # converge again")
    say("  make clean    # remove everything that this command created")
    return 0


def environment() -> dict[str, str]:
    """Return the variables that make Ansible find this checkout as an installed collection."""
    collections = CACHE.parent
    link = collections / "ansible_collections" / "kaido" / "ollama"
    if not link.is_dir():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../..", target_is_directory=True)
    return {"ANSIBLE_COLLECTIONS_PATH": str(collections)}
