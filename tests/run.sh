#!/usr/bin/env bash
# Passes the tests; sets up .venv first if need be. Arguments go to pytest: tests/run.sh -k confounders
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
source "$root/.ci/environment.sh"
cd "$root"
exec "$python" -P -m pytest "$@"
