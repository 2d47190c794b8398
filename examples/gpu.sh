#!/bin/sh
# The figures of a machine with one GPU in one JSON file, in about ten minutes:
#
#   sh examples/gpu.sh gpu.json
#
# Needs Python 3.11 or newer with pip; what is missing is installed into .venv. On a machine without a GPU it
# measures the CPU. QUICK=1 shortens everything, to try the script. The tables of a page come from the file:
#
#   python -m train.benchmark --from gpu.json --into docs/speed.md
set -eu
cd "$(dirname "$0")/.."
out=${1:-gpu.json}
python=${PYTHON:-}
if [ -z "$python" ]; then
    [ -x .venv/bin/python ] || python3 -m venv .venv
    python=.venv/bin/python
    extras=torch
    command -v nvidia-smi > /dev/null && extras=torch,cuda
    "$python" -c 'import flaxnets, torch' 2> /dev/null || "$python" -m pip install --quiet -e ".[$extras]"
fi
parts=$(mktemp -d)
trap 'rm -r "$parts"' EXIT

# Most important first, because no config begins after --minutes.
configs="branching_attn convnn:model=attention vit convnn:model=cnn block_cnn:batch_norm profiled_cnn expert_cnn
    mnist:exercise=1 mnist:exercise=6c convnn:model=convnn_all convnn:model=branching_all
    convnn:model=convnn_random convnn:model=convnn_spatial convnn:model=convnn_attn
    convnn:model=branching_random convnn:model=branching_spatial vgg16:pruned"
variants="branching_attn convnn:model=convnn_all"
settings="--rounds 5 --seconds 0.3"
minutes=6 more=2 against=torch epochs=2 limit=0
if [ -n "${QUICK:-}" ]; then
    configs="mnist:exercise=1 convnn:model=convnn_random,digits" variants="convnn:model=convnn_random,digits"
    settings="--rounds 1 --seconds 0.01 --config.data.batch_size=4"
    against=eager epochs=1 limit=64
fi
files() {
    for config in $1; do
        printf -- '--config configs/%s.py%s ' "${config%%:*}" "$(printf %s "$config" | sed -n 's/^[^:]*\(:.*\)/\1/p')"
    done
}

# shellcheck disable=SC2046,SC2086
"$python" -m train.benchmark $(files "$configs") $settings --against $against --minutes $minutes \
    --json "$parts/training.json"
# Loop against scan, neighbours by top_k, 8 replicas.
# shellcheck disable=SC2046,SC2086
"$python" -m train.benchmark $(files "$variants") $settings --variants --minutes $more \
    --json "$parts/variants.json"
# The same run twice: are all bits the same?
for run in one two; do
    "$python" -m train --config configs/branching_attn.py:digits --config.deterministic=true \
        --config.parallel=single --config.epochs=$epochs --config.data.limit=$limit \
        --config.log.tensorboard=false --workdir "$parts/$run"
done
"$python" - "$parts" "$out" << 'END'
import json, pathlib, sys

import numpy as np

from train.checkpointing.checkpoints import Checkpoints

parts = pathlib.Path(sys.argv[1])
results = json.loads((parts / 'training.json').read_text())
results['variants'] = json.loads((parts / 'variants.json').read_text())['training']
one, two = (Checkpoints(parts / run, read_only=True) for run in ('one', 'two'))
values = [c.values(c.find('last')) for c in (one, two)]
same = all(np.array_equal(values[0][name], values[1][name]) for name in values[0])
results['deterministic'] = {'config': 'branching_attn:digits', 'same_bits': same}
pathlib.Path(sys.argv[2]).write_text(json.dumps(results, indent=2) + '\n')
print(f'the same run twice: {"the same bits" if same else "OTHER BITS"}; everything is in {sys.argv[2]}')
END
