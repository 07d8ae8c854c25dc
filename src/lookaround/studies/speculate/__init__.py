"""Several tokens per pass for a model that exists."""
