#!/bin/sh
# Make .venv from requirements/dev.txt: finds a Python, and installs Debian's python3-venv where it is missing.
set -eu

usable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$usable"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11, 3.12 or 3.13 found (ansible-core 2.19 runs on these). Install one, or name it: make PYTHON=/path/to/python" >&2
    exit 1
fi

# Debian splits venv's pip out of python3: without it `-m venv` fails halfway.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    by_hand="Do this once, then run make again: apt-get install python3-venv   (as root; $python has no venv)"
    if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! command -v sudo >/dev/null; }; then
        echo "$by_hand" >&2
        exit 1
    fi
    echo "Installing the Debian package python3-venv: $python cannot make virtual environments without it."
    if ! { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 python3-venv &&
        "$python" -c 'import ensurepip, venv'; }; then
        echo "$by_hand" >&2
        exit 1
    fi
fi

echo "Making .venv with $("$python" --version)"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
touch .venv/.stamp
