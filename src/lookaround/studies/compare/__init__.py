"""Several objectives at equal budget, evaluated, and what to make of it."""
