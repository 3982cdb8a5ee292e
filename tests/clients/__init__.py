"""Real clients for hosts with the role ollama_client, and a fake remote provider."""
