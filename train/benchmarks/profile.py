"""The parts of a config's training step: its modules alone, its operators, its memory."""

import functools
import pathlib
import tempfile
from typing import Any

import jax

from train import build, experiment
from train import config as options
from train.benchmarks import modules, operators, synthetic
from train.benchmarks.timing import alternate
from train.benchmarks.training import Ours, spread
from train.distributed.convolutions import by_onednn
from train.workdir import read_summary

BETWEEN = "the model's activations, pooling and sums"


def measure(config: options.ConfigDict, folder: pathlib.Path | None = None) -> dict[str, Any]:
    """The numbers of a config; the trace stays in `folder`, if there is one."""
    config.parallel, config.data.placement = 'single', 'device'
    with experiment.precision(config), tempfile.TemporaryDirectory() as temporary:
        ours = Ours(config)
        seconds = spread(alternate({'step': functools.partial(ours.train, 1)}, modules.ROUNDS)['step'])
        place = folder or pathlib.Path(temporary)
        operators.trace(place, functools.partial(ours.train, 1))
        top = operators.costliest(place, ours.compiled.as_text() or '')
        height, width, channels = synthetic.shape(config)
        dtype = 'float64' if config.precision == 'float64' else 'float32'
        images = jax.ShapeDtypeStruct((config.data.batch_size, height, width, channels), dtype)
        model = build.create_model(config, ours.sets['train'])  # the experiment's values have been donated
        model.train()
        root = modules.calls(model, images)
        costs = modules.measure(root, by_onednn(config, ours.exp.devices))
        around = ours.around()
        facts = ours.facts()
    own: dict[str, float] = modules.parts(root, costs)
    top_level = sum(costs[id(c)].forward + costs[id(c)].backward for c in root.children)
    around = {BETWEEN: own.pop(root.name), **around}
    step, costliest = seconds['median'], max(own, key=lambda name: own[name])
    return {
        **facts,
        'step_seconds': seconds,
        'modules': list(lines(root, costs)),
        'modules_seconds': top_level,
        'around_seconds': around,
        'other_seconds': step - top_level - sum(around.values()),
        'costliest': costliest,
        'costliest_share': own[costliest] / step,
        'operators': top,
    }


def lines(root: modules.Call, costs: dict[int, modules.Cost], depth: int = 0) -> Any:
    """A line of numbers for each call inside the model, in order."""
    for call in root.children:
        cost = costs[id(call)]
        inner = sum(costs[id(c)].forward + costs[id(c)].backward for c in call.children)
        yield {
            'module': call.name,
            'depth': depth,
            'parameters': call.parameters,
            'multiply_adds': cost.multiply_adds,
            'forward_seconds': cost.forward,
            'backward_seconds': cost.backward,
            'own_seconds': cost.forward + cost.backward - inner,
        }
        yield from lines(call, costs, depth + 1)


def accuracy(workdir: pathlib.Path) -> dict[str, Any]:
    """The test accuracy of the config's own run, where it has been made."""
    summary = read_summary(workdir)
    return {'test_accuracy': summary['test_accuracy']} if summary else {}
