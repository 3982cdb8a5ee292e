# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.standin serve`: the version to be comes from STANDIN_VERSION."""

from __future__ import annotations

import os
import sys

from .cli import main

sys.exit(main(sys.argv[1:], os.environ.get("STANDIN_VERSION", "0.35.1")))
