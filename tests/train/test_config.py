"""Configs: every option checked, every mistake one line that names the key."""

import json
import pathlib
import sys

import numpy as np
import pytest

from flaxnets.errors import UserError
from train import cli, config_flags
from train import config as options

CONFIG = 'configs/branching_attn.py'
ROOT = pathlib.Path(__file__).parents[2]


MINE = """from train import config
def get_config():
    c = config.defaults()
    {}
    return c
"""


@pytest.fixture(autouse=True)
def _in_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def parse(*args):
    return config_flags.parse(['train', *args])


def test_published_recipe():
    config, workdir = parse('--config', CONFIG)
    assert (config.epochs, config.data.name, config.data.batch_size) == (100, 'cifar10', 64)
    assert (config.optimizer.name, config.optimizer.learning_rate) == ('adam', 1e-4)
    assert config.model.to_dict() == {'name': 'branching_attn', 'num_layers': 2}
    assert workdir.parent == pathlib.Path('runs')
    assert workdir.name.startswith('branching_attn-')


def test_variation_and_overrides():
    config, workdir = parse(
        '--config', f'{CONFIG}:digits,layers=4', '--config.epochs=3', '--config.data.image_size=(16,24)'
    )
    assert (config.data.name, config.model.num_layers, config.epochs) == ('digits', 4, 3)
    assert config.data.image_size == (16, 24)
    assert workdir.name.startswith('branching_attn-digits-layers4-')
    again = parse(
        '--config', f'{CONFIG}:digits,layers=4', '--config.epochs=3', '--config.data.image_size=(16,24)'
    )
    assert again[1] == workdir
    assert parse('--config', f'{CONFIG}:digits,layers=4')[1] != workdir


def test_the_order_of_flags_does_not_matter():
    first = parse('--config', CONFIG, '--config.epochs=3', '--workdir', 'w')
    assert parse('--config.epochs=3', '--workdir', 'w', f'--config={CONFIG}') == first
    assert parse('--workdir=w', '--config.epochs=3', '-config', CONFIG) == first


def test_scalars_stand_for_tuples_and_integers_for_floats():
    args = ('--config.data.image_size=16', '--config.optimizer.learning_rate=1', '--config.model.num_heads=4')
    config, _ = parse('--config', CONFIG, '--config.model.name=attention', *args)
    assert config.data.image_size == (16,)
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.model.num_heads == 4


def test_the_last_of_two_settings_counts():
    twice = (
        '--config.data.image_size=16',
        '--config.epochs=3',
        '--config.data.image_size=20',
        '--config.epochs=4',
    )
    config, _ = parse('--config', CONFIG, *twice)
    assert (config.data.image_size, config.epochs) == ((20,), 4)


@pytest.mark.parametrize(
    ('args', 'expected'),
    [
        (['--config.epochs=abc'], "config.epochs: expected int at least 1, got 'abc'"),
        (['--config.epochs=0'], 'config.epochs: expected int at least 1, got 0.'),
        (['--config.epochs=1.5'], "config.epochs: expected int at least 1, got '1.5'"),
        (['--config.epoch=3'], 'config.epoch: there is no such option. Did you mean epochs?'),
        (['--config.daat.name=mnist'], 'Did you mean data.name'),
        (['--config.data.nam=mnist'], 'Did you mean data.name'),
        (['--config.optimizer.name=adm'], "expected one of adam, adamw, sgd, got 'adm'. Did you mean adam"),
        (['--config.model.num_layer=2'], 'branching_attn has no such option. Did you mean num_layers'),
        (
            ['--config.model.num_layers=two'],
            "model.num_layers: expected a whole number of at least 1, got 'two'",
        ),
        (['--config.model.name=branching_atn'], 'Did you mean branching_attn'),
        (['--config.data.mean=0.5'], 'config.data.std: expected as many values as data.mean, 1, got 3'),
        (['--config.data=4'], 'config.data: expected'),
        (['--config.model.name.x=4'], 'config.model.name.x: there is no such option'),
        (['--config.checkpoint.every=often'], "'1 epoch', '500 steps', '10 minutes', got 'often'"),
        (['--config.optimizer.momentum=0.9'], 'config.optimizer.momentum: expected sgd beside it, got adam'),
        (['--config.schedule.warmup_epochs=100'], 'expected less than epochs, 100, got 100'),
        (['--confg=3'], '--confg: there is no such option. Did you mean config?'),
        (['stray'], "'stray' is not expected"),
        (['configs/vit.py'], "'configs/vit.py' is not expected; write --config FILE before a config file"),
        (['--config.epochs'], '--config.epochs: expected a value, got none; write --config.epochs=VALUE'),
        (['--workdir'], '--workdir: expected a value, got none'),
        (['--workdir', ''], '--workdir: expected a folder, got an empty name'),
        (
            ['--config.optimizer.learning_rate=inf'],
            'learning_rate: expected finite number at least 0, got inf',
        ),
        (['--config.data.augment.brightness=inf'], 'brightness: expected finite number at least 0, got inf'),
        (['--config.schedule.decay_epochs=0'], 'decay_epochs: expected more than 0, got 0'),
        (['--epochs=1'], 'Did you mean --config.epochs?'),
        (['--continue', 'runs/x'], '--continue: expected no --config with it'),
    ],
)
def test_mistakes_are_one_line(args, expected, capsys):
    assert cli.main(['train', '--config', CONFIG, *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert expected in error


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        (f'{CONFIG}:digit', "config argument: 'digit' is unknown. Did you mean digits?"),
        (f'{CONFIG}:layers=x', "config argument layers: expected int, got 'x'"),
        (f'{CONFIG}:layers', 'config argument layers: expected int'),
        ('configs/brnching_attn.py', 'Did you mean configs/branching_attn.py'),
    ],
)
def test_a_wrong_config_argument(config, expected, capsys):
    assert cli.main(['train', '--config', config]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert expected in error


def test_no_config(capsys):
    assert cli.main(['train']) == 2
    assert capsys.readouterr().err == (
        'error: --config: expected a config file, such as --config configs/branching_attn.py:digits\n'
    )


def test_a_workdir_alone_is_told_of_continue(capsys):
    assert cli.main(['train', '--workdir', 'runs/mine']) == 2
    assert capsys.readouterr().err.endswith(
        ':digits; to continue a run with its own config, --continue DIR instead of --workdir\n'
    )


def test_a_config_file_without_variations(tmp_path, capsys):
    path = tmp_path / 'plain.py'
    path.write_text('from train import config\n\ndef get_config():\n    return config.defaults()\n')
    assert cli.main(['train', '--config', f'{path}:digits']) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f'error: {path}:3: expected get_config(argument), which gets what follows the colon'
    )
    assert 'Traceback' not in error


def test_a_bug_in_a_config_file_is_named_by_line(tmp_path, capsys):
    path = tmp_path / 'bug.py'
    path.write_text('def get_config():\n    return undefined_name\n')
    assert cli.main(['train', '--config', str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert f'{path}:2: NameError' in error


@pytest.mark.parametrize(
    ('text', 'args', 'expected'),
    [
        ('x = 1', [], 'mine.py: expected a function get_config'),
        (
            'x = 1\n\ndef get_config():\n    pass',
            [],
            'mine.py:3: expected a function get_config that returns',
        ),
        ('def get_config():\n    pass', ['--config.epochs=3'], 'mine.py:1: expected a function get_config'),
        (
            MINE.format('c.optimizer.learning_rat = 1'),
            [],
            'mine.py:4: config.optimizer.learning_rat: there is no',
        ),
        (MINE.format('c["epochs"] = "x"'), [], "mine.py:4: config.epochs: expected int at least 1, got 'x'"),
        (MINE.format('c.epochs = 1'), ['--config.epochs=0'], 'error: config.epochs: expected int'),
    ],
)
def test_a_mistake_in_a_config_file_is_named_by_line(text, args, expected, tmp_path, capsys, monkeypatch):
    # ml_collections gives every config file's module the same name; a program reads only one.
    for name in [name for name, module in sys.modules.items() if 'get_config' in vars(module)]:
        monkeypatch.delitem(sys.modules, name)
    path = tmp_path / 'mine.py'
    path.write_text(text)
    assert cli.main(['train', '--config', str(path), *args]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert expected in error


def test_continue_reads_the_runs_own_config(tmp_path, capsys):
    config, _ = parse('--config', f'{CONFIG}:digits,layers=4')
    (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
    again, workdir = parse('--continue', str(tmp_path), '--config.epochs=7')
    assert workdir == tmp_path
    assert (again.epochs, again.model.num_layers, again.data.image_size) == (7, 4, config.data.image_size)
    assert cli.main(['train', f'--continue={tmp_path / "x"}']) == 2
    assert cli.main(['train', '--continue']) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert 'expected the folder of a run' in first
    assert 'expected the workdir of a run' in second


def test_help_is_short_and_options_are_all(capsys):
    assert cli.main(['train', '--help']) == 0
    help_text = capsys.readouterr().out
    assert len(help_text.splitlines()) < 28
    assert cli.main(['train', '--options']) == 0
    listed = capsys.readouterr().out
    assert all(f'--config.{key}=' in listed for key in options.OPTIONS)


def test_from_python_and_through_json():
    config = options.defaults()
    config.model.name = 'cnn'
    checked = options.validate(config)
    assert options.validate(json.loads(json.dumps(checked.to_dict()))).to_dict() == checked.to_dict()
    assert options.validate({'epochs': 3}).epochs == 3
    config.data.image_size, config.optimizer.learning_rate, config.data.classes = 32, 1, ['cat', 'dog']
    checked = options.validate(config)
    assert (checked.data.image_size, checked.data.classes) == ((32,), ('cat', 'dog'))
    config.epochs, config.data.image_size = np.int64(2), (np.int64(8), 9)
    config.optimizer.learning_rate = np.float32(0.5)
    checked = options.validate(config)
    assert json.loads(json.dumps(checked.to_dict()))['optimizer']['learning_rate'] == 0.5
    assert (checked.epochs, checked.data.image_size) == (2, (8, 9))
    config.epochs = '3'
    with pytest.raises(UserError, match=r"config\.epochs: expected int at least 1, got '3'"):
        options.validate(config)
    with pytest.raises(UserError, match=r'config\.epochs: expected int at least 1, got True'):
        options.validate({'epochs': True})


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('1 epoch', (1, 'epoch')), ('500 steps', (500, 'step')), ('0.5 minutes', (0.5, 'minute'))],
)
def test_every(text, expected):
    assert options.every(text) == expected
