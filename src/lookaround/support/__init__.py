"""What every floor may use: errors, files, randomness, the machine."""
