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
is_ready() { source_text | cmp -s - "$venv/installed-from" && holds_us "$venv/bin/python" && ! lacks_gpu; }

# Whether a GPU is here, or where this machine sends jobs to; NVIDIA_VISIBLE_DEVICES, as in containers, overrules that.
may_use_gpu() {
  case ${NVIDIA_VISIBLE_DEVICES:-} in none | void) return 1 ;; ?*) return ;; esac
  [[ $OSTYPE != linux* ]] || [ -e /dev/nvidiactl ] || command -v nvidia-smi sbatch qsub bsub >/dev/null
}

# Whether .venv was made where no GPU was, and now one may be used.
lacks_gpu() { [ -e "$venv/without-gpu" ] && may_use_gpu; }

# The first Python that the pins hold for, and that can make environments.
find_python() {
  local name without_venv=
  for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
    "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || continue
    "$name" -c 'import ensurepip, venv' 2>/dev/null && { echo "$name"; return; }
    without_venv=$name
  done
  [ -z "$without_venv" ] || die "$without_venv has no venv module. On Debian or Ubuntu: apt install python3-venv"
  die "no Python 3.11 to 3.14 found. Install one (https://www.python.org/downloads/, apt, brew, conda or uv)."
}

# Whether pip was told where packages come from: then it alone knows, and is left to that.
pip_has_settings() { .venv/bin/python -m pip config list | grep -E '^[^=]*(index|find-links|constraint)' >/dev/null; }

# Nothing is built from source: a package without a wheel for this Python is named at once.
pip_install() {
  .venv/bin/python -m pip install --disable-pip-version-check --only-binary :all: "$@" >"$log" 2>&1
}

# PyTorch's own build without GPU, of 0.7 GB and not 5.2, where its index answers.
install_torch_without_gpu() {
  local index=https://download.pytorch.org/whl/cpu
  if pip_install --retries 0 --timeout 15 --index-url "$index" --no-deps -c constraints.txt torch torchvision; then
    touch "$venv/without-gpu"
  else
    say "no GPU is seen here, but PyTorch without its 4.5 GB for one cannot be had from $index: taking the usual one."
  fi
}

install() {
  local everything=(-r constraints.txt -e '.[test,imagenet]')
  if ! pip_has_settings; then
    may_use_gpu || install_torch_without_gpu
    if command -v uv >/dev/null; then
      uv pip install --python .venv/bin/python "${everything[@]}" >"$log" 2>&1 && return
      say "uv failed, pip tries instead: $(grep -A 2 '^error' "$log" | tr -s '\n ' ' ')"
    fi
  fi
  pip_install "${everything[@]}"
}

# What failed, in a sentence, by what pip wrote last.
reason() {
  local pin needs silence
  pin=$(sed -n 's/^ERROR: No matching distribution found for \([^ ;]*\).*/\1/p' "$log" | tail -n 1)
  needs=$(grep -o " ${pin#*==} Requires-Python [^;]*" "$log" | tail -n 1)
  silence=$(sed -n "s/.*after connection broken by '\(.*\)': .*/\1/p" "$log" | tail -n 1)
  if grep -q 'No space left' "$log"; then
    echo "the disk is full. It takes 7 GB in $venv, and as much for pip's cache and in ${TMPDIR:-/tmp}."
  elif [ -n "$pin" ] && [ -n "$needs" ]; then
    echo "$pin needs Python ${needs##* Requires-Python }, and this is $("$venv/bin/python" -V)."
  elif [ -n "$silence" ]; then
    echo "the package index did not answer: $silence"
  elif [ -n "$pin" ]; then
    echo "the package index has no $pin for $("$venv/bin/python" -V) on $MACHTYPE."
  else
    grep -A 6 -E '^(ERROR|error)' "$log" | tail -n 15
  fi
}

set_up() {
  local base log=$venv/install.log
  base=$(find_python) || exit
  say "setting up .venv with $base: some minutes and up to 7 GB, once (progress: $log)"
  # A stopped installation can leave packages that pip takes for whole, and it keeps a build without GPU: begin anew.
  if [ -e "$venv/unfinished" ] || lacks_gpu; then set -- --clear; fi
  "$base" -m venv "$@" "$venv" || die "$base could not make $venv; see above."
  rm -f "$venv/installed-from" "$log"
  touch "$venv/unfinished"
  (cd "$root" && install) || die "the installation failed: $(reason) (All of it: $log) Mend that, then start again."
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
