#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Report the observed state of each host of the play
version_added: 1.0.0
description:
  - Prints one table for all hosts of the play, and optionally writes an HTML page and JSON. Every value was observed on
    the host, by the roles of this collection or by M(kaido.ollama.host_info) if its result is registered as
    C(ollama_host_info).
  - C(VERIFICATION) is V(verified) with the time since the contents of all blobs were last compared with their digests,
    V(damaged), V(missing) or V(not checked). C(LISTENS ON) contains the sockets of all services of this collection.
    C(SOURCE) is the source from which a model was downloaded in this run.
  - A host that failed or did not answer has a row with the reason. Below the table are repairs and removals, models
    that are not declared, leftovers, unfinished downloads and, in check mode, the changes that the next run would make.
  - Runs on the controller without a connection to any host. Use it with C(run_once).
  - With a stdout callback that writes another format, for example JSON, the table is printed on stderr.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  file:
    description:
      - An HTML file on the controller for the report. It is a single file without scripts, for screens, phones and
        print.
      - A file of the same name with V(.json) contains the facts of the report, see C(docs/report.schema.json).
    type: path
  benchmarks:
    description: The directory on the controller with the results of M(kaido.ollama.model_benchmark). The page plots the
      newest result of each host.
    type: path
  predicted:
    description: Whether the roles ran in check mode, so that their results are predictions. By default, whether this
      task runs in check mode.
    type: bool
notes:
  - 'Values of RV(ignore:failure.code): V(value_invalid), V(report_unwritable).'
seealso:
  - module: kaido.ollama.host_info
  - module: kaido.ollama.model_benchmark
"""

EXAMPLES = r"""
- name: Show the report
  kaido.ollama.report:
  run_once: true

- name: Write a page and JSON
  kaido.ollama.report:
    file: /srv/www/ollama.html
  run_once: true

- name: Write a page with the results of benchmarks
  kaido.ollama.report:
    file: /srv/www/ollama.html
    benchmarks: "{{ inventory_dir }}/benchmarks"
  run_once: true

- name: Observe the hosts
  kaido.ollama.host_info:
    models: "{{ ollama_models }}"
  become: true
  register: ollama_host_info

- name: Report the observed state, even if this play runs in check mode
  kaido.ollama.report:
    predicted: false
  run_once: true
  register: fleet
"""

RETURN = r"""
lines:
  description: The table.
  returned: success
  type: list
  elements: str
  sample:
    - HOST  OLLAMA  LISTENS ON       COMPUTES ON  MODEL        DIGEST        VERIFIED    SIZE
    - big1  0.35.1  127.0.0.1:11434  CUDA         llama3.2:3b  a80c4f17acd5  yes       2.0 GB
report:
  description: The facts of the report, see C(docs/report.schema.json).
  returned: success
  type: dict
  sample: {schema: 1, hosts: []}
files:
  description: The files that were written.
  returned: success
  type: list
  elements: str
  sample: [/srv/www/ollama.html, /srv/www/ollama.json]
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: report_unwritable
"""
