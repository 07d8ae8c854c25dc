#!/usr/bin/env bash
# The loop on a GPU against the CPU, and its speed: benchmarks/gpu.py, whose docstring says what is measured.
#   bash benchmarks/gpu.sh [--parts agreement,resume,scores,speed] [--out FOLDER]     about 4 minutes on an H100
#   bash benchmarks/gpu.sh --small                                                    20 seconds on two CPU cores
# $PYTHON is the interpreter (default: python) of an environment that holds lookaround.
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/gpu.py" "$@"
