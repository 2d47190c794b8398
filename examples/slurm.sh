#!/bin/bash
# Trains on several machines under SLURM, one process for each GPU, and continues after the time limit.
#
#   sbatch examples/slurm.sh --config configs/vgg16.py --config.data.batch_size=4096
#
# The workdir must be on a file system that all machines share. Change the numbers to those of your cluster.
#SBATCH --job-name=flaxnets
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
# Two minutes before the limit every process gets SIGTERM, saves its state and exits with 143.
#SBATCH --signal=TERM@120
# Not --gpus-per-task: JAX uses the GPU with the number SLURM_LOCALID, so it must see all GPUs of the machine.

set -uo pipefail
: "${SLURM_JOB_ID:?expected a job of SLURM; start it with: sbatch examples/slurm.sh --config ...}"
# A requeued job has the same number, and so continues in the same folder.
workdir=${WORKDIR:-runs/slurm-$SLURM_JOB_ID}
python=${PYTHON:-.venv/bin/python}

# If one process fails, srun ends the others at once.
srun --kill-on-bad-exit=1 "$python" -u -m train --workdir "$workdir" "$@"
code=$?
if [ "$code" -eq 143 ]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
