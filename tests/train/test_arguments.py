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


@pytest.mark.parametrize(
    ('command', 'words', 'expected'),
    [
        ('evaluate', '', 'command line: expected --workdir.'),
        ('evaluate', '--workdir', '--workdir: expected a value, got none.'),
        (
            'evaluate',
            '--workdir x --split tset',
            "--split: expected one of 'train', 'validation', 'test', got 'tset'.",
        ),
        ('evaluate', '--workdir x --batch_size x', "--batch_size: expected a whole number, got 'x'."),
        ('evaluate', '--workdir x more', "command line: 'more' is not expected."),
        ('predict', '--workdir x', 'command line: expected images.'),
        ('report', '', 'command line: expected --workdir or --compare.'),
        ('report', '--compare', '--compare: expected a value or more, got none.'),
        ('report', '--workdir x --compare y', '--compare: expected no --workdir with it.'),
        ('scaling', '--teraflops x', "--teraflops: expected a number, got 'x'."),
    ],
)
def test_mistakes_are_told_in_our_words(command, words, expected, capsys):
    assert cli.guarded(main(f'train.{command}'), [command, *words.split()]) == 2
    assert capsys.readouterr().err == f'error: {expected} See python -m train.{command} --help\n'


@pytest.mark.parametrize('content', ['', '{}', '[1]', 'text', '{"data": 1}'])
def test_numbers_that_are_none_of_train_benchmarks(content, tmp_path, capsys):
    (tmp_path / 'a.json').write_text(content)
    assert cli.guarded(main('train.benchmark'), ['benchmark', '--from', str(tmp_path / 'a.json')]) == 2
    assert capsys.readouterr().err.startswith('error: --from: expected what train.benchmark')
