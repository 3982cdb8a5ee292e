# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that need a real GPU: `make test-gpu`. All other tests about GPUs use copies of the files of hosts."""
