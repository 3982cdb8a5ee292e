#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Damages the largest blob of the store and verifies the store: the unit has to fail, so that OnFailure= works.
set -eu
cd /srv/disk/models/blobs
largest=$(find . -name 'sha256-*' -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2)
printf '\377\377\377\377' | dd of="$largest" bs=1 seek=1000 conv=notrunc status=none
if systemctl start kaido-ollama-verification.service; then
  echo "the verification did not detect the damage"
  exit 1
fi
systemctl list-units --failed --plain --no-legend | grep kaido-ollama-verification.service
journalctl --unit kaido-ollama-verification --output cat | grep '^tiny:latest: .*has wrong content'
