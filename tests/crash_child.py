"""A process to kill: `python tests/crash_child.py CASE=WORKDIR ...` trains each in turn."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import runs

# Small networks that between them have all that a resume could get wrong.
CASES = {
    'batch_norm': {
        'model': {'name': 'mnist_cnn', 'batch_norm': True, 'widths': (4, 8, 8), 'residual': 1},
        'data.augment.crop': 1,
        'data.augment.flip': True,
        'schedule.name': 'cosine',
        'schedule.unit': 'step',
    },
    'dropout': {
        'model': {'name': 'profiled_cnn', 'widths': (4, 8), 'hidden': (16, 8)},
        'optimizer.name': 'sgd',
        'optimizer.momentum': 0.9,
        'data.augment.brightness': 0.1,
        'log.tensorboard': True,
        'data.placement': 'stream',
    },
    'candidates': {
        'model': {
            'name': 'branching_random',
            'num_layers': 1,
            'width': 4,
            'num_candidates': 8,
            'num_neighbors': 3,
        },
        'optimizer.name': 'adamw',
        'data.augment.cutout': 2,
        'data.validation': 0.2,
    },
}


def config(case, folder, **changes):
    """21 steps, saved every second one, so that a process at a random moment is often in a save."""
    made = runs.digits(folder, epochs=3, data__batch_size=32)
    for key, value in ({'checkpoint.every': '2 steps'} | CASES[case] | changes).items():
        *parents, last = key.split('.')
        section = made
        for parent in parents:
            section = section[parent]
        section[last] = value
    return made


if __name__ == '__main__':
    import train

    for argument in sys.argv[1:]:
        case, _, workdir = argument.partition('=')
        train.run(config(case, pathlib.Path(workdir).parent), workdir)
