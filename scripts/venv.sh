#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Create .venv from requirements/dev.txt: find a Python, and install Debian's python3-venv where it is missing.
# The environment is built in .cache and then renamed: a failure leaves the present one as it is.
set -eu

if [ -L .venv ]; then
    echo ".venv is a symbolic link to $(readlink .venv), which may be the environment of another checkout: it is not changed. Remove the link (rm .venv) to create an environment here, or run make in that checkout" >&2
    exit 1
fi
if [ -e .venv ] && [ ! -f .venv/pyvenv.cfg ]; then
    echo ".venv is not a virtual environment: it is not changed. Move it away, then run make again" >&2
    exit 1
fi

usable='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "$usable"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11, 3.12 or 3.13 found, which ansible-core 2.19 requires. Install one, or set its path: make PYTHON=/path/to/python" >&2
    exit 1
fi

# Debian ships ensurepip in a package of its own: without it, `-m venv` fails halfway.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    by_hand="Install python3-venv as root (apt-get install python3-venv), then run make again: $python has no venv"
    if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! command -v sudo >/dev/null; }; then
        echo "$by_hand" >&2
        exit 1
    fi
    echo "Installing the Debian package python3-venv: $python cannot create virtual environments without it."
    if ! { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 python3-venv &&
        "$python" -c 'import ensurepip, venv'; }; then
        echo "$by_hand" >&2
        exit 1
    fi
fi

echo "Creating .venv with $("$python" --version)"
new=$PWD/.cache/venv.new
old=$PWD/.cache/venv.old
mkdir -p .cache
rm -rf "$new" "$old"
"$python" -m venv "$new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
# Programs of an environment contain its path.
grep -lIr --exclude-dir=lib "$new" "$new/bin" "$new/pyvenv.cfg" | xargs sed -i "s|$new|$PWD/.venv|g"
touch "$new/.stamp"
if [ -e .venv ]; then
    mv .venv "$old"
fi
mv "$new" .venv
rm -rf "$old"
