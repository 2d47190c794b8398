"""Output that nobody reads, or whose encoding lacks a character."""

import os
import subprocess
import sys

import runs

from train.runtime import streams

PRINTS = """
import sys
from train.runtime import streams
streams.keep()
for _ in range(int(sys.argv[1])):
    print('caf\\udce9 \\u00b1 \\u4e2d', flush=True)
    print('caf\\udce9 \\u00b1 \\u4e2d', flush=True, file=sys.stderr)
"""


def test_a_pipe_without_a_reader_takes_everything():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with streams._Kept(write_end, 'w') as file:
        assert file.write(b'lost') == 4


def test_any_text_in_any_encoding():
    for encoding in ('ascii', 'utf-8'):
        environment = os.environ | {'PYTHONIOENCODING': encoding}
        command = [sys.executable, '-c', PRINTS, '1']
        done = subprocess.run(command, check=True, cwd=runs.ROOT, env=environment, capture_output=True)
        expected = '± 中'.encode(encoding, 'backslashreplace').decode(encoding)
        assert done.stdout.decode(encoding) == done.stderr.decode(encoding) == f'caf\\xe9 {expected}\n'


def test_a_reader_that_leaves_and_a_closed_output():
    for rest in ('| head -1', '>&-', '2>&-', '2>&1 | head -1'):
        command = f'"{sys.executable}" -c "$0" 20000 2>&1 {rest}; exit ${{PIPESTATUS[0]}}'
        done = subprocess.run(
            ['bash', '-c', command, PRINTS], cwd=runs.ROOT, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b''), rest


def test_options_to_a_reader_that_leaves():
    command = f'"{sys.executable}" -m train --options | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', command], cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, '--config.seed=0\n', '')


def test_unbuffered_output_is_there_at_once():
    code = PRINTS.replace(', flush=True', '') + 'import os; os._exit(0)'
    environment = os.environ | {'PYTHONUNBUFFERED': '1'}
    command = [sys.executable, '-c', code, '1']
    done = subprocess.run(command, check=True, cwd=runs.ROOT, env=environment, capture_output=True)
    assert done.stdout.strip()
    assert done.stderr.strip()
