#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What https://ollama.com/install.sh does on Linux, step by step, with the release site of the lab: vendor.sh BASE_URL
set -eu
# RHEL's sudo leaves it out.
PATH=$PATH:/usr/local/bin
case "$(uname -m)" in x86_64) arch=amd64 ;; *) arch=arm64 ;; esac
mkdir -p /usr/local/bin /usr/local/lib/ollama
curl --fail --silent --show-error "$1/v0.34.4/ollama-linux-$arch.tar.zst" | zstd -d | tar -xf - -C /usr/local

useradd -r -s /bin/false -U -m -d /usr/share/ollama ollama
for group in render video; do
  if getent group $group >/dev/null; then usermod -a -G $group ollama; fi
done
usermod -a -G ollama ops

cat >/etc/systemd/system/ollama.service <<UNIT
[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Restart=always
RestartSec=3
Environment="PATH=$PATH"

[Install]
WantedBy=default.target
UNIT

# What its users then do: an edit of the unit, a drop-in, a model.
sed -i 's/^RestartSec=3$/&\nEnvironment="OLLAMA_MAX_QUEUE=64"/' /etc/systemd/system/ollama.service
mkdir -p /etc/systemd/system/ollama.service.d
printf '[Service]\nEnvironment="OLLAMA_KEEP_ALIVE=1h" OLLAMA_HOST=127.0.0.1:11434\n' \
  >/etc/systemd/system/ollama.service.d/override.conf
systemctl daemon-reload
systemctl enable --quiet ollama
systemctl restart ollama
for _try in $(seq 50); do ollama list >/dev/null 2>&1 && break; sleep 0.2; done
for model in tiny:latest kaido/tiny2:q8; do
  case $model in */*) from=depot:11480/$model ;; *) from=depot:11480/library/$model ;; esac
  ollama pull --insecure "$from" >/dev/null 2>&1
  ollama cp "$from" $model
  ollama rm "$from"
done
cd /usr/share/ollama/.ollama/models/blobs
stat -c '%n %i %Y' -- * >/root/blobs-before
