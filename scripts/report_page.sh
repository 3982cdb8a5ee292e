#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Render the report page of the tests in Chromium: light, dark and narrow screenshots and a print, in tests/output/report.
# Debian's package chromium is installed if no Chromium is found.
set -eu

out=tests/output/report
mkdir -p "$out"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Chromium not found. Install it, then run make report-page again" >&2
        exit 1
    fi
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    $as_root apt-get update -qq
    $as_root apt-get install -y -qq --no-install-recommends chromium
    browser=$(command -v chromium)
fi
PYTHONPATH=.cache:. .venv/bin/python -m tests.unit.plugin_utils.fleet "$out/report.html"

render() {
    "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$out/profile" "$@" \
        "file://$PWD/$out/report.html" >/dev/null 2>&1
}

render --screenshot="$out/light.png" --window-size=1200,2700
render --screenshot="$out/dark.png" --window-size=1200,2700 --blink-settings=preferredColorScheme=0
render --screenshot="$out/phone.png" --window-size=500,4200
render --print-to-pdf="$out/print.pdf"
rm -rf "$out/profile"
for file in light.png dark.png phone.png print.pdf; do
    test -s "$out/$file"
    echo "$out/$file"
done
