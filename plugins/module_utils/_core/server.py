# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of a host as one value: its account, directories and unit. Their defaults are here only.

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
    """Account and directories of a server. Requests to preflight and to uninstall extend it."""

    models_dir: str = "/usr/share/ollama/.ollama/models"
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    home: str = "/usr/share/ollama"
    user: str = "ollama"
    group: str = "ollama"
