"""A run on a real (pseudo-)terminal: its live display, and what Ctrl-C leaves there."""

import re
import signal

import runs
import terminal

RUN = [
    '-m',
    'train',
    '--config=configs/convnn.py:model=cnn,digits',
    '--config.model.width=4',
    '--config.data.image_size=8',
    '--config.data.limit=200',
    '--config.epochs=500',
    '--config.log.tensorboard=False',
]


def test_ctrl_c_leaves_a_clean_screen_and_a_readable_message(tmp_path, monkeypatch):
    monkeypatch.chdir(runs.ROOT)
    code, text = terminal.written(
        *RUN,
        f'--workdir={tmp_path / "run"}',
        until='  best\r',
        signum=signal.SIGINT,
        PYTHONPATH=str(runs.ROOT),
    )
    assert code == 128 + signal.SIGINT
    assert re.search(r'epoch \d+/500 ━.* left', re.sub(r'\x1b\[[\d;]*m', '', text)), 'the display'
    assert text.rindex('\x1b[?25h') > text.rindex('\x1b[?25l'), 'the cursor is shown again'
    last = text[text.rindex('\x1b[?25h') :].splitlines()
    assert re.match(r'stopped by SIGINT: saved at step \d+ of \d+ in ', last[-2].rpartition('\x1b[2K')[2])
    assert last[-1].startswith('To continue: ')
    if 'finishing' in text:  # the display was erased first, and is drawn again below
        assert re.search(r'\x1b\[2Kfinishing the step and saving; Ctrl-C again stops at once\r\n', text)
