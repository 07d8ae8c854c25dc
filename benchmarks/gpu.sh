#!/usr/bin/env bash
# The loop on a GPU against the CPU, and its speed: benchmarks/gpu.py, whose --help says what is
# measured. About 10 minutes on an H100:
#   bash benchmarks/gpu.sh [--parts agreement,resume,scores,speed,english,pathstar] [--out FOLDER]
#     [--limit SECONDS] [--json FILE]
# and 20 seconds on two CPU cores:
#   bash benchmarks/gpu.sh --small
# $PYTHON is the interpreter (default: python) of an environment that holds lookaround.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m benchmarks.gpu "$@"
