# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Options of the modules that use the API of a server, a registry or a model store.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_url:
    description: Base URL of the server. Proxies are not used for loopback addresses; redirects are not followed.
    type: str
    default: http://127.0.0.1:11434
  api_timeout:
    description: Timeout of a request in seconds, including the complete response.
    type: float
    default: 30.0
  ca_path:
    description: File with the CA certificates to trust for an C(https) server, in place of those of the system.
    type: path
"""

    REGISTRY = r"""
options:
  registry_environment:
    description:
      - Environment variables for the requests of this module to registries. Expected are E(HTTP_PROXY),
        E(HTTPS_PROXY), E(NO_PROXY), E(SSL_CERT_FILE) and E(SSL_CERT_DIR); proxies also in lower case.
      - A variable that is not set here is read from the environment of the task.
      - The role C(kaido.ollama.ollama) sets those of the server, so that both reach a registry in the same way.
      - C(https) and C(socks5) proxies are not supported. Credentials in the URL of a proxy are sent only to
        the proxy, and are not part of results and messages.
    type: dict
    default: {}
"""

    STORE = r"""
options:
  models_dir:
    description:
      - Directory of the model store of the server (its E(OLLAMA_MODELS)), on the managed host.
      - The module needs read access, and write access for repairs, so it usually runs with C(become).
      - As root, the module accesses the store only with the rights of the owner of the store, so that a link in it
        cannot lead to other files.
    type: path
    default: /usr/share/ollama/.ollama/models
  state_dir:
    description:
      - Directory in which the module records verified blobs, so that an unchanged blob is not read again.
      - The default is C(/var/lib/kaido-ollama) for root, and C(~/.local/state/kaido-ollama) for other users.
      - It is outside of the store because Ollama deletes unknown files in the store.
    type: path
"""
