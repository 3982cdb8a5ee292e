# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients for hosts with the role ollama_client, and a fake remote provider."""
