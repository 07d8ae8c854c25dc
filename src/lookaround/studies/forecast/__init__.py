"""What a corpus says of objectives before any training."""
