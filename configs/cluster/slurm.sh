#!/bin/bash
# A study as a SLURM job: a Ray head on the first node, workers on the others, gone with the job.
#
# Cost: what your site charges for the nodes that the job holds.
#
#   sbatch configs/cluster/slurm.sh configs/cifar10/study.yaml --set output=/shared/runs
#
# Before its time is up, or when the site preempts it, the job puts itself back into the queue and
# goes on where the study stopped. The output must be a folder that every node sees, or a URI.
#SBATCH --job-name=darts-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=darts-ray-%j.log

set -euo pipefail
if [[ $# -eq 0 ]]; then
    echo "usage: sbatch $0 CONFIG [--set KEY=VALUE ...]" >&2
    exit 2
fi
for command in darts-ray ray; do
    # activate the environment that holds them above this line, or before `sbatch`
    command -v "$command" >/dev/null || { echo "$command: not installed" >&2; exit 2; }
done

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
step=(srun --overlap --ntasks-per-node=1)
on_head=("${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head")
read -r ip _ < <("${on_head[@]}" hostname --all-ip-addresses)
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs may share a node

# Whoever reaches Ray's ports can run code on the nodes; this job's Ray asks for a token of its own,
# which `srun` hands on with the environment.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

pids=()
end() { # the steps, and Ray with them; `ray stop` would end other jobs' Rays on a shared node
    trap - EXIT
    kill "${pids[@]}" 2>/dev/null || true
    wait
}
trap end EXIT

has=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --block)
"${on_head[@]}" ray start --head --node-ip-address="$ip" --port="$port" \
    --include-dashboard=false "${has[@]}" &
pids+=($!)
until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
    kill -0 "${pids[0]}" || { echo "the Ray head on $head has ended" >&2; exit 1; }
    sleep 1
done
if [[ ${#nodes[@]} -gt 1 ]]; then
    count=$((${#nodes[@]} - 1))
    others=$(IFS=,; echo "${nodes[*]:1}")
    "${step[@]}" --nodes="$count" --ntasks="$count" --nodelist="$others" \
        ray start --address="$ip:$port" "${has[@]}" &
    pids+=($!)
fi

# --resume: begins a new study, or goes on with the one that is there; wait_s: nodes join in time
export RAY_ADDRESS=$ip:$port
darts-ray study "$@" --resume --quiet --set resources.wait_s=300 &
study=$!
terminated=0
trap 'terminated=1; kill -TERM "$study"' TERM
code=0
wait "$study" || code=$?
if [[ $terminated -eq 1 ]]; then
    wait "$study" || code=$? # the first one was cut short by the signal
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
