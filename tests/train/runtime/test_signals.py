"""Signals at awkward moments: in destructors, while the program is imported, when a terminal closes."""

import gc
import os
import signal
import subprocess
import sys
import time

import pytest
import runs

from train.runtime import signals
from train.runtime.signals import Stopped


def finish(*arguments, **changes):
    """A finished Python process, started in the checkout."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, cwd=runs.ROOT, capture_output=True, text=True, **changes)


class Signalled:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


def collected(phase, info):
    if phase == 'start' and not collected.done:
        collected.done = True
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize('where', ['a destructor', 'the garbage collector'])
def test_a_signal_where_exceptions_are_ignored(where, capsys):
    """No traceback, and the next block that may be interrupted is."""
    collected.done = False
    with pytest.raises(Stopped), signals.signals() as stop:  # noqa: PT012
        if where == 'a destructor':
            Signalled()
        else:
            gc.callbacks.append(collected)
            try:
                gc.collect()
            finally:
                gc.callbacks.remove(collected)
        assert stop.signum == signal.SIGTERM
        assert not stop.seen.is_set()  # so the watching thread ends the process if nothing else does
        with stop.interruptible():
            pytest.fail('the signal is lost')
    assert capsys.readouterr().err == ''


def test_other_ignored_exceptions_are_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, 'unraisablehook', shown.append)
    with signals.signals():
        type('Failing', (), {'__del__': lambda self: int('x')})()
    assert len(shown) == 1


def test_a_terminal_that_closes_stops_the_run():
    with pytest.raises(Stopped, match='SIGHUP'), signals.signals():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(1)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert not stop.signum
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_while_the_program_is_imported():
    process = subprocess.Popen(
        [sys.executable, '-v', '-m', 'train'], cwd=runs.ROOT, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("import 'train.cli'") or 'jax' in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert 'Traceback' not in errors
    assert f'stopped by SIGINT\nTo continue: {sys.executable} -v -m train' in errors


INTERRUPTED = '''
import pathlib, signal, sys
from train import cli
sys.path.insert(0, sys.argv[2])
pathlib.Path(sys.argv[2], 'extension.py').write_text("""
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError
""")
class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
def command(argv):
    if argv[1] == 'an import':
        import extension
    elif argv[1] == 'a destructor':
        Destroyed()
    else:
        signal.raise_signal(signal.SIGINT)
sys.exit(cli.guarded(command, sys.argv))
'''


@pytest.mark.parametrize('where', ['an import', 'a destructor', 'elsewhere'])
def test_other_commands_end_without_a_traceback(where, tmp_path):
    done = finish('-c', INTERRUPTED, where, str(tmp_path))
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith('\nstopped at once\nTo continue: ')


def test_a_command_that_is_not_imported_yet_ends_silently():
    done = finish('-c', 'import sys; sys.argv = ["-m"]; import signal, train; signal.raise_signal(2)')
    assert (done.returncode, done.stderr) == (-signal.SIGINT, '')


LONG = """
import hashlib, sys
from train import cli
from train.runtime import signals
signals.PATIENCE = 0.2
def command(argv):
    with signals.signals(own_process=True) as stop, stop.interruptible(True, unsaved=argv[1] == 'unsaved'):
        print('computing', flush=True)
        hashlib.pbkdf2_hmac('sha256', b'', b'', int(argv[2]))  # which no signal interrupts
sys.exit(cli.guarded(command, sys.argv))
"""


@pytest.mark.parametrize(('what', 'rounds'), [('nothing', 10**9), ('unsaved', 6 * 10**6)])
def test_a_long_computation_is_ended_from_outside_if_nothing_is_unsaved(what, rounds):
    process = subprocess.Popen(
        [sys.executable, '-c', LONG, what, str(rounds)],
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'computing\n'
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143
    said = 'by SIGTERM' if what == 'unsaved' else 'inside a long computation; nothing was unsaved'
    assert errors.strip().startswith(f'stopped {said}\nTo continue: ')


CRASHES_AT_EXIT = """
import atexit, os, runpy, signal, sys
import train.loop
def run(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
train.loop.run = run
atexit.register(os.abort)
runpy.run_module('train', run_name='__main__')
"""


def test_the_exit_code_does_not_depend_on_the_interpreters_end():
    """JAX crashes there after an exception has passed through its compiler."""
    done = finish('-c', CRASHES_AT_EXIT, '--config', 'configs/branching_attn.py:digits')
    assert done.returncode == 143, done.stderr
    assert f'stopped by SIGTERM\nTo continue: {sys.executable} -c' in done.stderr
