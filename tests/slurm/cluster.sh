#!/usr/bin/env bash
# A real Slurm on this machine alone: munged, slurmctld and a slurmd for each node, all on loopback, as root, without systemd
# and without cgroups, so that a container will do. Everything it writes is below FOLDER.
#
#   cluster.sh up FOLDER [NODE...]   start it (default: one node, n1) and wait until every node is idle
#   cluster.sh down FOLDER           end its daemons
#
# Afterwards SLURM_CONF=FOLDER/slurm.conf makes Slurm's own commands talk to it. Debian: apt install slurmctld slurmd
# slurm-client munge. Every node is this machine once more: Debian's slurmd may run under several names (-N).
set -euo pipefail

what="${1:?up or down}" folder="$(realpath -m "${2:?a folder}")"
shift 2

end() {  # the daemons whose process ids are in the folder, by name of the file
  local file
  for file in "$folder"/run/*.pid; do
    [[ -e "$file" ]] && kill "$@" "$(cat "$file")" 2> /dev/null || true
  done
}

if [[ "$what" == down ]]; then
  end
  for _ in $(seq 50); do
    alive=0
    for file in "$folder"/run/*.pid; do
      [[ -e "$file" ]] && kill -0 "$(cat "$file")" 2> /dev/null && alive=1
    done
    [[ "$alive" == 0 ]] && exit 0
    sleep 0.1
  done
  end -9
  exit 0
fi

[[ "$(id -u)" == 0 ]] || { echo "cluster.sh: slurmd needs root" >&2; exit 1; }
nodes=("$@")
[[ ${#nodes[@]} -gt 0 ]] || nodes=(n1)
mkdir -p "$folder"/{run,state,log}
chmod 755 "$folder" "$folder/run"
trap 'code=$?; [[ $code == 0 ]] || { end; tail -n 20 "$folder"/log/* >&2 2> /dev/null; exit $code; }' EXIT

# Ports nobody listens on: one for the controller, one for each node.
mapfile -t ports < <(python3 - $((${#nodes[@]} + 1)) << 'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(each.getsockname()[1] for each in held), sep="\n")
PYTHON
)
cores="$(nproc)" memory="$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)" host="$(hostname -s)"
names="$(IFS=,; echo "${nodes[*]}")"
{
  cat << CONF
ClusterName=cnnbench
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/state/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
MpiDefault=none
ReturnToService=1
KillWait=10
SlurmdTimeout=10
InactiveLimit=0
CONF
  for number in "${!nodes[@]}"; do
    echo "NodeName=${nodes[number]} NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[number + 1]} CPUs=$cores RealMemory=$memory"
  done
  echo "PartitionName=main Nodes=$names Default=YES MaxTime=INFINITE State=UP"
} > "$folder/slurm.conf"
export SLURM_CONF="$folder/slurm.conf"

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
  --log-file="$folder/log/munged" --seed-file="$folder/state/munge.seed" 2> "$folder/log/munged.start"
slurmctld -c 2> "$folder/log/slurmctld.start"
for node in "${nodes[@]}"; do
  mkdir -p "$folder/state/$node"
  slurmd -N "$node" 2> "$folder/log/slurmd-$node.start"
done
for _ in $(seq 300); do
  [[ "$(sinfo -h -N -o %t 2> /dev/null | sort | uniq -c | tr -s ' ')" == " ${#nodes[@]} idle" ]] && exit 0
  sleep 0.2
done
echo "cluster.sh: the nodes did not become idle: $(sinfo -N -o '%N %t %E' 2>&1)" >&2
exit 1
