"""Both halves of quality: classification and generation."""
