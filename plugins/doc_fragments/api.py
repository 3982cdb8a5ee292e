# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The options that every module takes that talks to a server, and that its store needs.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_url:
    description: The base URL of the server. Proxies are not used for loopback addresses; redirects are not followed.
    type: str
    default: http://127.0.0.1:11434
  api_timeout:
    description: Seconds that the server may take for the whole of an ordinary answer.
    type: float
    default: 30.0
  ca_path:
    description: A file with CA certificates to trust for an C(https) server, instead of the system's.
    type: path
"""

    REGISTRY = r"""
options:
  registry_environment:
    description:
      - Variables for this module's own requests to registries, as Ollama reads them. Expected are E(HTTP_PROXY),
        E(HTTPS_PROXY), E(NO_PROXY), E(SSL_CERT_FILE) and E(SSL_CERT_DIR); proxies also in lower case.
      - A variable that is not given is taken from the environment of the task.
      - The role C(kaido.ollama.ollama) gives those of the server, so that both use the same way to a registry.
      - C(https) and C(socks5) proxies are not supported. Credentials in a proxy's URL are sent to the proxy only, and
        are not shown in results and messages.
    type: dict
    default: {}
"""

    STORE = r"""
options:
  models_dir:
    description:
      - The folder of the server's model store (its E(OLLAMA_MODELS)), on the host that the module runs on.
      - The module has to run as root or as a user who may read it, and write it for repairs, so usually with C(become).
      - As root the module accesses the store with the rights of the store's owner only, so that a link in it leads
        nowhere else.
    type: path
    default: /usr/share/ollama/.ollama/models
  state_dir:
    description:
      - Where the module remembers which blobs it has found right, so that an unchanged blob is not read again.
      - By default C(/var/lib/kaido-ollama) for root, and C(~/.local/state/kaido-ollama) for others.
      - It lies outside the store because Ollama deletes files there that it does not know.
    type: path
"""
