#!/usr/bin/env bash
# Starts a Slurm of one node on this machine, for tests/runs/test_slurm.py; as root, on Debian or Ubuntu.
#
#   apt-get install slurm-wlm munge
#   eval "$(tests/slurm/start.sh)"        # prints SLURM_CONF=..., which sbatch and squeue need
#   tests/run.sh tests/runs/test_slurm.py
#   tests/slurm/start.sh stop
#
# Everything it writes is in one folder ($SLURM_TEST_FOLDER, default /tmp/sourcematters-slurm); the machine's own
# /etc/slurm and /etc/munge are left alone. It ends only daemons that it started.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
folder=${SLURM_TEST_FOLDER:-/tmp/sourcematters-slurm}
export SLURM_CONF=$folder/slurm.conf

die() { echo "error: $*" >&2; exit 2; }

stop() {
  local daemon pid
  # Jobs outlive their daemons.
  if [ -e "$SLURM_CONF" ] && timeout 5 scancel --user=root 2>/dev/null; then
    for _ in $(seq 100); do [ -z "$(timeout 5 squeue --noheader 2>/dev/null)" ] && break; sleep 0.1; done
  fi
  for daemon in slurmd slurmctld munged; do
    pid=$(cat "$folder/$daemon.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  done
  rm -rf "$folder"
}

[ "$(id -u)" = 0 ] || die "start it as root: slurmd starts jobs as any user."
[ "${1:-}" = stop ] && { stop; exit; }
for tool in munged slurmctld slurmd sinfo; do
  command -v "$tool" >/dev/null || die "no $tool here. On Debian or Ubuntu: apt-get install slurm-wlm munge"
done
if [ -e "$SLURM_CONF" ] && timeout 5 sinfo >/dev/null 2>&1; then
  echo "export SLURM_CONF=$SLURM_CONF"
  exit
fi
stop
mkdir -p "$folder/state" "$folder/spool"
chmod 755 "$folder"

# munged refuses to run from a folder that others may write to, or as another user than its key's.
install -d -o munge -g munge -m 755 "$folder/munge"
head -c 128 /dev/urandom >"$folder/munge/key"
chown munge:munge "$folder/munge/key"
chmod 600 "$folder/munge/key"
runuser -u munge -- munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" >&2
ln -s munge/socket "$folder/munge.socket"
ln -s munge/pid "$folder/munged.pid"

sed -e "s|@HOST@|$(hostname -s)|; s|@FOLDER@|$folder|; s|@CPUS@|${SLURM_TEST_CPUS:-4}|" \
  "$here/slurm.conf.in" >"$SLURM_CONF"
slurmctld -i </dev/null >&2
slurmd </dev/null >&2
for _ in $(seq 100); do
  [ "$(timeout 5 sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
  sleep 0.2
done
[ "$(sinfo --noheader --format=%T)" = idle ] || die "the node did not come up; see $folder/*.log"
echo "export SLURM_CONF=$SLURM_CONF"
