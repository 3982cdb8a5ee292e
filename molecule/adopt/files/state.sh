#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Who listens as ollama, what the server was given, and which files hold a secret: state.sh SECRET
set -eu
secret=$1
uid=$(id -u ollama)
# It complains of cgroups that it cannot see.
ss -H -ltne 2>/dev/null | awk -v uid="uid:$uid" '{ for (i = 1; i <= NF; i++) if ($i == uid) print $4 }'
tr '\0' '\n' <"/proc/$(systemctl show --property MainPID --value ollama)/environ"
systemctl show --property MemoryMax,CPUQuotaPerSecUSec ollama
# grep fails where it finds nothing, and files may go while it looks; that it does find is seen by "private".
holds() { find / /run /tmp -xdev -type f "$@" -exec grep -l -s "$secret" {} + || true; }
echo "readable:$(holds -perm /o=r)"
echo "private:$(holds -not -perm /o=r)"
