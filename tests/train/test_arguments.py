"""Every command shows examples in its --help, and says a mistake in one line."""

import importlib
import re

import pytest
import runs

from train import cli

COMMANDS = [
    '.'.join(path.relative_to(runs.ROOT).with_suffix('').parts)
    for path in sorted(runs.ROOT.glob('train/**/*.py'))
    if '\ndef main(argv' in path.read_text() and path.name != 'cli.py'
]


def main(command):
    return cli.main if command == 'train' else importlib.import_module(command).main


def test_there_are_commands():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize('command', ['train', *COMMANDS])
def test_help_ends_with_examples(command, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')  # so that no line is broken
    if command == 'train':
        cli.main(['train', '--help'])
    else:
        with pytest.raises(SystemExit) as left:
            main(command)([command, '--help'])
        assert left.value.code == 0
    text = capsys.readouterr().out
    _, _, below = text.partition('\nexamples:\n' if command != 'train' else 'python -m train')
    assert re.search(rf'^  python -m {re.escape(command)}( [\w-]|$)', below, re.MULTILINE), text


@pytest.mark.parametrize('wrong', [['--nonsense'], ['--nonsense=1', 'word'], ['--help-me']])
@pytest.mark.parametrize('command', COMMANDS)
def test_an_unknown_option_is_one_line(command, wrong, capsys):
    assert cli.guarded(main(command), [command, *wrong]) == 2
    printed, error = capsys.readouterr()
    assert (printed, error.count('\n')) == ('', 1)
    assert error.startswith('error: ')


def test_a_mistyped_option_names_the_nearest(capsys):
    from train import evaluate

    assert cli.guarded(evaluate.main, ['evaluate', '--workdir', 'x', '--checkpiont', 'last']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: command line: there is no option --checkpiont. Did you mean --checkpoint')
    assert error.endswith('? See python -m train.evaluate --help\n')
