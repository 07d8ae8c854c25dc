"""What makes the numbers of results/: run a file as `python -m benchmarks.NAME --help`."""
