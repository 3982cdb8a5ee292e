#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Install promtool to .cache/promtool: a link to the installed program, or the one of Debian's package prometheus. The
# package is only unpacked: its installation would start a server.
set -eu

here=.cache/promtool
mkdir -p "$here/usr/bin"
if command -v promtool >/dev/null; then
    ln -sf "$(command -v promtool)" "$here/usr/bin/promtool"
    exit
fi
manually="Install promtool, a part of Prometheus, then run make again"
if ! command -v apt-get >/dev/null; then
    echo "promtool not found. $manually" >&2
    exit 1
fi
as_root=
[ "$(id -u)" -eq 0 ] || as_root=sudo
cd "$here"
if ! { apt-get download -qq prometheus || { $as_root apt-get update -qq && apt-get download -qq prometheus; }; }; then
    echo "apt-get cannot download the package prometheus. $manually" >&2
    exit 1
fi
dpkg -x prometheus_*.deb .
rm prometheus_*.deb
