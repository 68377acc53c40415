# Sourced by run_all.sh and tests/run.sh, with $root set: puts the interpreter to use into $python.
#
# That is the active environment's, if it holds this checkout; else .venv's, made here when it is missing,
# half-built, or older than pyproject.toml and constraints.txt.

venv=$root/.venv

say() { printf 'sourcematters: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 2; }

# Whether interpreter $1 imports the package from this checkout (-P: not because we stand in it).
holds_us() {
  [ -x "$1" ] && "$1" -P -c '
import os, sys, sourcematters
sys.exit(not os.path.samefile(os.path.dirname(os.path.dirname(sourcematters.__file__)), sys.argv[1]))
' "$root" 2>/dev/null
}

# What .venv was installed from: kept in it as a file, and compared.
source_text() { printf '%s\n' "$root"; cat "$root/pyproject.toml" "$root/constraints.txt"; }
is_ready() { source_text | cmp -s - "$venv/installed-from" && holds_us "$venv/bin/python"; }

# The first Python >= 3.11 that can make environments. The pins were tested on the first named.
find_python() {
  local name without_venv=
  for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    "$name" -c 'import ensurepip, venv' 2>/dev/null && { echo "$name"; return; }
    without_venv=$name
  done
  [ -z "$without_venv" ] || die "$without_venv has no venv module. On Debian or Ubuntu: apt install python3-venv"
  die "no Python >= 3.11 found. Install one (https://www.python.org/downloads/, apt, brew or conda)."
}

set_up() {
  local base log=$venv/install.log
  base=$(find_python) || exit
  say "setting up .venv with $base: some minutes and 6 GB, once (progress: $log)"
  # A stopped installation can leave packages that pip takes for whole: begin anew.
  if [ -e "$venv/unfinished" ]; then "$base" -m venv --clear "$venv"; else "$base" -m venv "$venv"; fi ||
    die "$base could not make $venv; see above."
  rm -f "$venv/installed-from"
  touch "$venv/unfinished"
  if ! (cd "$root" && bin=.venv/bin/python &&
    "$bin" -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]') >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "the installation failed (all of it: $log). Mend what it says above, then start again."
  fi
  source_text >"$venv/installed-from"
  rm "$venv/unfinished"
}

# One at a time, where the system has flock.
set_up_once() (
  if command -v flock >/dev/null && ! flock -n 9 2>/dev/null; then
    say "waiting for another set-up of this folder"
    flock 9
  fi
  is_ready || set_up
) 9<"$root"

python=
for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
  if [ -n "$prefix" ] && ! [ "$prefix" -ef "$venv" ] && holds_us "$prefix/bin/python"; then
    python=$prefix/bin/python
    break
  fi
done
if [ -z "$python" ]; then
  is_ready || set_up_once
  python=$venv/bin/python
fi
