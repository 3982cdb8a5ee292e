"""Real clients for hosts that role ollama_client has prepared, and the fake of a remote provider."""
