#!/usr/bin/env bash
# Runs the study; sets up .venv first if need be. Try: ./run_all.sh --help
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd -P)
source "$root/.ci/environment.sh"
exec "$python" -P -m sourcematters run "$@"
