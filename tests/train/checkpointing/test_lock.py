"""Who looks whether a run is writing to its workdir does not get in its way."""

import fcntl
import threading
import time

import pytest

from flaxnets.errors import UserError
from train.checkpointing import lock


def test_looking_refuses_no_run(tmp_path):
    """Neither a run that starts just then nor another one that looks."""
    assert not lock.in_use(tmp_path)
    with lock.WorkdirLock(tmp_path):
        assert lock.in_use(tmp_path)
    assert not lock.in_use(tmp_path)
    with (tmp_path / lock.NAME).open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `in_use` does, but for long
        assert not lock.in_use(tmp_path)
        threading.Timer(0.2, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with lock.WorkdirLock(tmp_path):
            assert lock.in_use(tmp_path)


def test_many_look_while_runs_start_and_end(tmp_path):
    ended = threading.Event()

    def look():
        while not ended.is_set():
            lock.in_use(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with lock.WorkdirLock(tmp_path) as locked:
                locked.check()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_second_run_is_refused_soon(tmp_path):
    with lock.WorkdirLock(tmp_path):
        began = time.monotonic()
        with pytest.raises(UserError, match='in use by another run'), lock.WorkdirLock(tmp_path):
            pass
        assert time.monotonic() - began < lock.PATIENCE + 2
