#!/usr/bin/env bash
# Passes the checks and the tests; sets up .venv first if need be. With arguments, tests only: they go to pytest, as in
# tests/run.sh -k confounders
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
source "$root/.ci/environment.sh"
cd "$root"
[ $# -eq 0 ] || exec "$python" -P -m pytest "$@"
bin=$(dirname "$python")
"$bin/lint-imports" --no-cache
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/nbstripout" --keep-id --verify notebooks/*.ipynb
"$bin/mypy"
# One process a core; a file's tests stay together, for the studies that some of them share take minutes to make, in the
# order of their names: those with few tests and a long study are not kept for the end.
exec "$python" -P -m pytest -n auto --dist loadfile --no-loadscope-reorder
