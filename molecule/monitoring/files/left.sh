#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Prints the files of the monitoring that are left.
find /etc /usr/local /var/lib /opt -name '*kaido-ollama-[mv]*' -o -name monitoring.pyz -o -name kaido_ollama.prom
for path in /run/kaido-ollama-*; do [ ! -e "$path" ] || echo "$path"; done
getent passwd ollama-monitoring
command -v prometheus-node-exporter
exit 0
