# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account, directories and unit of a server, with their defaults.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = "ollama.service"
DEFAULT_URL = "http://127.0.0.1:11434"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
ENVIRONMENT_PATH = "/etc/ollama/ollama.env"


@dataclass(frozen=True)
class Server:
    """The account and the directories of a server. The requests for preflight and uninstallation extend it."""

    models_dir: str = "/usr/share/ollama/.ollama/models"
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    home: str = "/usr/share/ollama"
    user: str = "ollama"
    group: str = "ollama"
