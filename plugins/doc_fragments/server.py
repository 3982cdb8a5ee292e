# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that describe a server."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  models_dir:
    description: Directory of the models, C(ollama_models_dir).
    type: str
    default: /usr/share/ollama/.ollama/models
  home:
    description: Home directory of the account that runs the server.
    type: str
    default: /usr/share/ollama
  user:
    description: Account that runs the server, C(ollama_user).
    type: str
    default: ollama
  group:
    description: Group of the account, C(ollama_group).
    type: str
    default: ollama
"""

    INSTALLATION = r"""
options:
  install_dir:
    description: Directory of the releases, C(ollama_install_dir).
    type: str
    default: /opt/ollama
  bin_dir:
    description: Directory of the link C(ollama) to the program.
    type: str
    default: /usr/local/bin
"""
