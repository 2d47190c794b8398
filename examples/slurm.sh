#!/bin/bash
# Trains on several machines under SLURM, one process for each GPU, and goes on where the time limit stops it.
#
#   sbatch examples/slurm.sh --config configs/vgg16.py --config.data.batch_size=4096
#
# The workdir must lie on a file system that all the machines share. Change the numbers to your cluster's.
#SBATCH --job-name=flaxnets
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
# Two minutes before the limit every process hears SIGTERM, saves what it has and exits with 143.
#SBATCH --signal=TERM@120
# Not --gpus-per-task: JAX takes the GPU that SLURM_LOCALID numbers, and so must see all of the machine's.

set -uo pipefail
# The job's number stays when it is requeued, and with it the folder that it continues from.
workdir=${WORKDIR:-runs/slurm-$SLURM_JOB_ID}
python=${PYTHON:-.venv/bin/python}

# Where one process fails, srun ends the others at once.
srun --kill-on-bad-exit=1 "$python" -u -m train --workdir "$workdir" "$@"
code=$?
if [ "$code" -eq 143 ]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
