#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What a removed server left: nothing, if this prints nothing.
find / /run /tmp -xdev \( -nouser -o -nogroup \) 2>/dev/null
ls -d /opt/ollama /etc/ollama /var/lib/kaido-ollama /usr/local/bin/ollama /etc/systemd/system/ollama.service \
  /etc/systemd/system/*.wants/ollama.service 2>/dev/null
getent passwd ollama
getent group ollama
systemctl list-units --all --no-legend 'ollama*'
