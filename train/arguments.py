"""The flags of a command: examples in its --help, a mistake in one line."""

import argparse
import re
from typing import NoReturn

from flaxnets.errors import UserError

# What argparse says, and what we say.
WORDS = {
    r'unrecognized arguments: (.*)': r"'\1' is not expected",
    r'the following arguments are required: ': 'expected ',
    r'one of the arguments (.*) (\S+) is required': r'expected \1 or \2',
    r'argument (\S+): invalid choice: (.*) \(choose from (.*)\)': r'\1: expected one of \3, got \2',
    r'argument (\S+): invalid int value: ': r'\1: expected a whole number, got ',
    r'argument (\S+): invalid float value: ': r'\1: expected a number, got ',
    r'argument (\S+): expected one argument': r'\1: expected a value, got none',
    r'argument (\S+): expected at least one argument': r'\1: expected a value or more, got none',
    r'argument (\S+): not allowed with argument (\S+)': r'\1: expected no \2 with it',
}


class Parser(argparse.ArgumentParser):
    """argparse for `python -m COMMAND`, which raises a `UserError` where argparse prints the usage and exits.

    `examples` are commands, one per line, and other text to print below the flags. A flag cannot be
    shortened: some commands pass those they do not know on to a config.
    """

    def __init__(self, command: str, description: str, examples: str):
        super().__init__(
            f'python -m {command}',
            description=description,
            epilog=f'examples:{examples}',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises the message in our words."""
        from flaxnets import registry  # not before --help: JAX takes a second to import

        if unknown := re.match('unrecognized arguments: (-[^ =]+)', message):
            near = registry.near(unknown[1], self._option_string_actions)
            message = f'command line: there is no option {unknown[1]}. {near}'
        else:
            for pattern, ours in WORDS.items():
                message = re.sub(pattern, ours, message)
            message = f'{"" if message.startswith("--") else "command line: "}{message}.'
        raise UserError(f'{message} See {self.prog} --help')


def add_checkpoint(parser: argparse.ArgumentParser, default: str = 'best') -> None:
    """Adds `--checkpoint`, which chooses one of a run's."""
    parser.add_argument(
        '--checkpoint', default=default, help=f'of a run: best, last or a step (default: {default})'
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, by which a user says that code named in a file may be run."""
    parser.add_argument(
        '--model', default=None, metavar='MODULE:BUILDER', help='your own model that the run or file names'
    )


def add_restored(parser: argparse.ArgumentParser, *, checkpoint: str) -> None:
    """Adds what `restored.restored` needs: the checkpoint, with its default, and the images to score."""
    add_checkpoint(parser, checkpoint)
    parser.add_argument('--split', default='test', choices=['train', 'validation', 'test'])
    parser.add_argument('--data_dir', default=None, help='where the data are, if they have moved')
    add_model(parser)
