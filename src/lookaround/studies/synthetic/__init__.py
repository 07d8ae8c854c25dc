"""Synthetic tasks whose answers test an objective, and models that learn them."""
