"""Every option of a run: its default, its type, its meaning. Nothing else knows them.

A config file returns `defaults()` with changes; `validate` checks the result, from a file, the
command line or Python alike, and fills in what is missing.
"""

import copy
import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import flaxnets
from flaxnets.errors import UserError
from flaxnets.options import Declared
from train import combinations


@dataclasses.dataclass(frozen=True)
class Option:
    """A value's default, which also gives its type, its meaning and its limits."""

    default: Any
    meaning: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def expected(self) -> str:
        """What `UserError` says was expected."""
        if self.choices:
            return 'one of ' + ', '.join(map(str, self.choices))
        limits = [f'at least {self.low:g}'] if self.low is not None else []
        limits += [f'at most {self.high:g}'] if self.high is not None else []
        kind = type(self.default).__name__
        kind = 'finite number' if kind == 'float' else kind
        return ' '.join([kind, ' and '.join(limits)]).strip()


OPTIONS: dict[str, Option] = {
    'seed': Option(0, 'random seed of initial values, order, augmentation, dropout and candidates', low=0),
    'replicas': Option(1, 'runs with the seeds from `seed` on, trained at once on one device', low=1),
    'sweep.learning_rate': Option((), 'peak learning rates, one replica with `seed` for each; empty: none'),
    'epochs': Option(10, 'passes over the training images', low=1),
    'precision': Option(
        'float32',
        'what layers compute in; parameters, statistics, loss and selection of neighbours stay float32',
        ('float32', 'bfloat16', 'float16', 'float64'),
    ),
    'parallel': Option('jit', 'how the batch is shared among devices', ('jit', 'pmap', 'fsdp', 'single')),
    'devices': Option(0, 'how many of the devices to use; 0: all', low=0),
    'convolution': Option(
        'xla',
        "auto: oneDNN's, of matrix products too, on one CPU: faster, but compiled anew at each start",
        ('xla', 'auto'),
    ),
    'deterministic': Option(False, 'the same bits in every run on a GPU too, which is slower'),
    'evaluate_with_batch_statistics': Option(False, 'evaluate in training mode, as document 001 does'),
    'evaluate_train_set': Option(False, 'also evaluate on the whole training set after each epoch'),
    'model.name': Option(
        'branching_attn', 'a registered model, or module:builder; its own options are model.OPTION'
    ),
    'data.name': Option('cifar10', 'a TFDS data set, digits, or the name of a folder'),
    'data.source': Option('auto', 'where it is read from', ('auto', 'tfds', 'torch', 'folder', 'embedded')),
    'data.data_dir': Option('', 'the folder it is in; empty: the usual places'),
    'data.download': Option(True, 'download it if it is in none of these places'),
    'data.cache_dir': Option(
        '', 'where decoded images are stored; empty: $FLAXNETS_CACHE or ~/.cache/flaxnets'
    ),
    'data.classes': Option((), 'the classes to keep, numbers or names; empty: all'),
    'data.image_size': Option((), 'side, or (height, width), to resize to; empty: as stored'),
    'data.channels': Option(0, '1 or 3; 0: as stored', (0, 1, 3)),
    'data.limit': Option(
        0, 'largest number of images of each split, each class in proportion; 0: all', low=0
    ),
    'data.test_limit': Option(0, 'the same for the test split alone; 0: as data.limit', low=0),
    'data.validation': Option(
        0.0,
        'share of the training images that become validation images, to choose the best epoch',
        low=0,
        high=0.9,
    ),
    'data.batch_size': Option(64, 'images in a step, over all devices', low=1),
    'data.eval_batch_size': Option(0, 'images in a step of an evaluation; 0: as batch_size', low=0),
    'data.placement': Option(
        'auto', 'where the decoded images are; auto: on the device if they fit', ('auto', 'device', 'stream')
    ),
    'data.workers': Option(4, 'threads that read batches ahead of a streamed set', low=1),
    'data.mean': Option(
        (), 'subtracted from pixels in [0, 1], one per channel; empty: 0; auto: measured, as is data.std'
    ),
    'data.std': Option((), 'then divided by, one per channel; empty: 1'),
    'data.augment.crop': Option(0, 'random crop after padding by this many pixels', low=0),
    'data.augment.crop_fill': Option('zero', 'what the padding is filled with', ('zero', 'reflect')),
    'data.augment.flip': Option(False, 'random horizontal flip'),
    'data.augment.brightness': Option(0.0, 'add a random number up to ± this to pixels in [0, 1]', low=0),
    'data.augment.contrast': Option(0.0, 'multiply contrast by a random number in 1 ± this', low=0, high=1),
    'data.augment.cutout': Option(0, 'side of a random square set to the mean', low=0),
    'data.augment.mixup': Option(0.0, 'alpha of the Beta distribution that mixes pairs', low=0),
    'data.augment.cutmix': Option(0.0, 'alpha of the Beta distribution of the pasted share', low=0),
    'loss.softmax_twice': Option(False, 'cross entropy of softmax(logits), as document 003 does'),
    'loss.label_smoothing': Option(0.0, 'share of the target spread over all classes', low=0, high=0.99),
    'optimizer.name': Option('adam', 'the update rule', ('adam', 'adamw', 'sgd')),
    'optimizer.learning_rate': Option(1e-3, 'peak learning rate', low=0),
    'optimizer.weight_decay': Option(
        0.0, 'decoupled for adamw, added to the gradients for adam and sgd', low=0
    ),
    'optimizer.decay': Option(
        'all', 'which parameters decay; kernels: without biases and norms', ('all', 'kernels')
    ),
    'optimizer.momentum': Option(0.0, 'momentum of sgd', low=0, high=0.9999),
    'optimizer.nesterov': Option(False, 'Nesterov momentum for sgd'),
    'optimizer.b1': Option(0.9, 'decay of the first moment of adam and adamw', low=0, high=0.99999),
    'optimizer.b2': Option(0.999, 'decay of the second moment', low=0, high=0.999999),
    'optimizer.eps': Option(1e-8, 'added to the root of the second moment', low=0),
    'optimizer.clip_norm': Option(0.0, 'largest norm of the gradient; 0: no limit', low=0),
    'optimizer.accumulate': Option(1, 'number of batches whose gradients are added for one update', low=1),
    'optimizer.freeze': Option('', 'parameters that are not trained: a path, key, or regular expression'),
    'optimizer.ema': Option(
        0.0, 'decay of averaged parameters, which are evaluated too; 0: off', low=0, high=0.999999
    ),
    'schedule.name': Option(
        'constant', 'learning-rate schedule', ('constant', 'cosine', 'step', 'exponential', 'one_cycle')
    ),
    'schedule.unit': Option('epoch', 'the rate changes every epoch or every step', ('epoch', 'step')),
    'schedule.warmup_epochs': Option(0.0, 'linear rise from 0', low=0),
    'schedule.decay_rate': Option(0.1, 'factor of step and exponential', low=0, high=1),
    'schedule.decay_epochs': Option(30.0, 'epochs between the factors (step, exponential)', low=0),
    'schedule.final': Option(0.0, 'cosine ends at this share of the peak', low=0, high=1),
    'schedule.peak': Option(0.3, 'share of the steps in which one_cycle rises', low=0, high=1),
    'init_from.path': Option('', 'weights to start from: a run, .pt, .pth or .safetensors; empty: none'),
    'init_from.skip': Option('', 'values that are not loaded: a path, key, or regular expression'),
    'init_from.rename': Option('', "'OLD=NEW ...': each key of the file becomes re.sub(OLD, NEW, key)"),
    'init_from.optimizer': Option(False, "load the moments of PyTorch's optimiser too"),
    'checkpoint.every': Option('1 epoch', 'N epochs, N steps or N minutes'),
    'checkpoint.keep': Option(
        2, 'how many of the newest checkpoints to keep, in addition to the best', low=1
    ),
    'checkpoint.metric': Option(
        'accuracy',
        'decides which epoch is best: the highest (loss: the lowest)',
        ('accuracy', 'macro_f1', 'loss'),
    ),
    'log.every': Option(50, 'steps between progress updates', low=1),
    'log.tensorboard': Option(True, 'write TensorBoard events'),
    'log.report': Option(True, 'write report/index.html with its pictures when the run ends'),
    'log.wandb': Option('', 'also log to this project of Weights & Biases; empty: off'),
    'stop.patience': Option(
        0, 'end the run after this many epochs without a better checkpoint.metric; 0: off', low=0
    ),
}

# The value of `data.mean` for which mean and deviation of the training images are measured.
AUTO = ('auto',)

# Options of a model that follow from others.
FROM_ELSEWHERE = {
    'image_shape': 'data.image_size and data.channels',
    'dtype': 'precision',
    'param_dtype': 'precision',
}

# `deterministic`, for XLA; it must be among XLA_FLAGS before JAX starts.
DETERMINISTIC_FLAG = '--xla_gpu_deterministic_ops'

# What a run may change when it resumes.
MUTABLE = (
    'epochs',
    'convolution',
    'parallel',
    'devices',
    'log.',
    'stop.',
    'checkpoint.every',
    'checkpoint.keep',
    'data.data_dir',
    'data.cache_dir',
    'data.download',
    'data.placement',
    'data.workers',
)


def defaults() -> ConfigDict:
    """A config with every option at its default; a config file changes what its experiment needs.

    Types are checked by `validate`, which also takes 32 for (32,), from Python as from the command line.
    """
    config = ConfigDict(type_safe=False, convert_dict=True)
    for key, option in OPTIONS.items():
        _set(config, key, option.default)
    return config


def variation(argument: str, **known: Any) -> ConfigDict:
    """Reads a config's argument: `'digits,layers=4'` with `digits=False, layers=2` known.

    A word sets a known flag; `key=value` takes the known default's type.
    """
    chosen = ConfigDict(known)
    for part in filter(None, argument.split(',')):
        key, equals, text = part.partition('=')
        if key not in known:
            raise UserError(f'config argument: {part!r} is unknown. {flaxnets.registry.near(key, known)}')
        default = known[key]
        if isinstance(default, bool):
            if equals and text.lower() not in ('true', 'false'):
                raise UserError(f'config argument {key}: expected {key} or {key}=false, got {part!r}')
            chosen[key] = text.lower() != 'false'
        else:
            try:
                chosen[key] = type(default)(text)
            except ValueError:
                kind = type(default).__name__
                raise UserError(f'config argument {key}: expected {kind}, got {text!r}') from None
            if not text:
                raise UserError(f'config argument {key}: expected {key}=VALUE, such as {key}={default}')
    return chosen


def choose(key: str, value: str, table: Mapping[str, Any]) -> Any:
    """The table's row for a config argument's value."""
    return table[one_of(key, value, table)]


def one_of(key: str, value: str, choices: Collection[str]) -> str:
    """A config argument's value, if it is one of `choices`."""
    if value not in choices:
        raise UserError(f'config argument {key}: expected one of {", ".join(choices)}, got {value!r}')
    return value


def embedded_digits(config: ConfigDict, *, image_size: int, channels: int, crop: int = 0) -> None:
    """Points a config at the embedded handwritten digits, at the size its model expects.

    They are not flipped: a mirrored digit is another sign. `crop` is that of `data.augment`.
    """
    config.convolution = 'xla'  # the runs are too short to be compiled anew at each start
    config.data.name = 'digits'
    config.data.image_size = (image_size,)
    config.data.channels = channels
    config.data.mean = (0.5,) * channels
    config.data.std = (0.5,) * channels
    config.data.augment.crop = crop
    config.data.augment.flip = False


def validate(config: Any) -> ConfigDict:
    """A checked copy of `config` with every option present; a `UserError` names the first wrong key."""
    given = flatten(config)
    checked = _checked(given)
    name = checked.model.name
    known = flaxnets.registry.entry(name).options()
    for key, value in _of_model(given):
        option_name = key.removeprefix('model.')
        if option_name in FROM_ELSEWHERE:
            raise UserError(
                f'config.{key}: expected not to be set; set {FROM_ELSEWHERE[option_name]} instead'
            )
        if option_name not in known:
            raise UserError(
                f'config.{key}: {name} has no such option. {flaxnets.registry.near(option_name, known)}'
            )
        _set(checked, key, check_model_option(key, value, known[option_name]))
    return checked


def validate_stored(config: Any, file: str, *, builds: bool = True) -> ConfigDict:
    """`validate` for a config from `file`, a run's or a model card's, which errors name.

    It may come from somebody else: a model that is not registered, whose code would be imported, is refused
    unless the user has named it too. With `builds=False`, for callers that do not build its model, the model
    is not looked up, and its options stay as given.
    """
    if builds:
        flaxnets.registry.check_named_in_file(str(flatten(config).get('model.name')), file)
    try:
        return validate(config) if builds else _without_model(config)
    except UserError as error:
        raise UserError(f'{file}: {error}') from error


def _without_model(config: Any) -> ConfigDict:
    given = flatten(config)
    checked = _checked(given)
    for key, value in _of_model(given):
        _set(checked, key, _frozen(value))
    return checked


def _checked(given: Mapping[str, Any]) -> ConfigDict:
    """All options but the model's own."""
    for key in given:
        if key not in OPTIONS and not key.startswith('model.'):
            raise UserError(f'config.{key}: there is no such option. {flaxnets.registry.near(key, OPTIONS)}')
    checked = ConfigDict(convert_dict=True)
    for key, option in OPTIONS.items():
        _set(checked, key, check(key, given.get(key, option.default), option))
    every(checked.checkpoint.every)
    _check_pixels(checked.data)
    combinations.check(checked)
    return checked


def _of_model(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The model's own options that are set."""
    return [(key, value) for key, value in given.items() if key not in OPTIONS and value is not None]


def check(key: str, value: Any, option: Option) -> Any:
    """`value` in the option's type, or a `UserError` that says what was expected."""
    value = _frozen(value)
    kind = type(option.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, (int, float, str)):
        value = (value,)
    correct = type(value) is kind
    if correct and option.choices:
        correct = value in option.choices
    if correct and isinstance(value, (int, float)):
        correct = (
            math.isfinite(value)
            and (option.low is None or value >= option.low)
            and (option.high is None or value <= option.high)
        )
    if not correct:
        hint = (
            f' {flaxnets.registry.near(value, option.choices)}'
            if option.choices and isinstance(value, str)
            else ''
        )
        raise UserError(f'config.{key}: expected {option.expected()}, got {value!r}.{hint}')
    return value


def check_model_option(key: str, value: Any, declared: Declared) -> Any:
    """`value` in the type that the model declares, or a `UserError` that says what was expected."""
    value = _frozen(value)
    if declared.several and isinstance(value, (int, float)):
        value = (value,)
    if isinstance(declared.default, float) and type(value) is int:
        value = float(value)
    infinite = isinstance(value, float) and not math.isfinite(value)
    if infinite or not declared.admits(value):
        hint = (
            f' {flaxnets.registry.near(value, declared.choices)}'
            if isinstance(value, str) and declared.choices
            else ''
        )
        raise UserError(f'config.{key}: expected {declared.expected()}, got {value!r}.{hint}')
    return value


def expected(key: str) -> str:
    """What a value of `key` must be, a model's own options among them."""
    if key in OPTIONS:
        return OPTIONS[key].expected()
    name = key.removeprefix('model.')
    declared = [e.options()[name] for e in flaxnets.registry.MODELS.values() if name in e.options()]
    return declared[0].expected() if declared else 'a value of the type it has in the config'


def every(text: str) -> tuple[float, str]:
    """`'2 epochs'` to (2, 'epoch'); the unit is epoch, step or minute."""
    number, _, unit = text.partition(' ')
    unit = unit.strip().removesuffix('s')
    try:
        amount = float(number)
    except ValueError:
        amount = 0.0
    whole = unit == 'minute' or amount.is_integer()
    if unit not in ('epoch', 'step', 'minute') or not 0 < amount < math.inf or not whole:
        expected = (
            "a whole number of epochs or steps, or minutes, such as '1 epoch', '500 steps', '10 minutes'"
        )
        raise UserError(f'config.checkpoint.every: expected {expected}, got {text!r}')
    return amount, unit


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
    """{'data.name': ...} of a nested config; tuples and other values are leaves."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, (ConfigDict, Mapping)):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = value
    return flat


def model_options(config: ConfigDict) -> dict[str, Any]:
    """The options set for the model, its name left out."""
    return {key: value for key, value in config.model.items() if key != 'name'}


def _check_pixels(data: ConfigDict) -> None:
    """`mean` and `std` have equal lengths; with 'auto' both are measured, and `std` is ignored."""
    if data.mean == AUTO:
        data.std = ()
        return
    for key in ('mean', 'std'):
        if not all(type(value) in (int, float) and math.isfinite(value) for value in data[key]):
            raise UserError(f'config.data.{key}: expected numbers, one per channel, got {data[key]}')
    if len(data.mean) != len(data.std):
        raise UserError(
            f'config.data.std: expected as many values as data.mean, {len(data.mean)}, got {len(data.std)}'
        )
    if any(not value > 0 for value in data.std):
        raise UserError(f'config.data.std: expected values above 0, got {data.std}')


def replicas(config: ConfigDict) -> int:
    """How many runs a config is: its `replicas`, or one for each learning rate of its sweep."""
    return len(config.sweep.learning_rate) or config.replicas


def replica(config: ConfigDict, index: int) -> ConfigDict:
    """The config of the single run that replica number `index` is equal to."""
    if replicas(config) == 1:
        return config
    alone = copy.deepcopy(config)
    alone.replicas, alone.sweep.learning_rate = 1, ()
    if config.sweep.learning_rate:
        alone.optimizer.learning_rate = float(config.sweep.learning_rate[index])
    else:
        alone.seed = config.seed + index
    return alone


def _frozen(value: Any) -> Any:
    """Lists as tuples, at every depth: JSON has no tuples. NumPy's scalars (of `np.logspace`) as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else copy.copy(value)


def _set(config: ConfigDict, key: str, value: Any) -> None:
    *parents, last = key.split('.')
    for parent in parents:
        if parent not in config:
            config[parent] = ConfigDict(type_safe=False)
        config = config[parent]
    config[last] = value
