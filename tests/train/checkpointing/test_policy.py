import pytest

from train.checkpointing import policy
from train.checkpointing.policy import SavePolicy


@pytest.mark.parametrize(
    ('every', 'due'), [('1 epoch', [4, 8, 10]), ('2 epochs', [8, 10]), ('3 steps', [3, 6, 9, 10])]
)
def test_epochs_and_steps(every, due):
    saves = SavePolicy(every, steps_per_epoch=4, total=10, step=0)
    assert [step for step in range(1, 11) if saves.due(step)] == due
    assert [saves.next(step) for step in range(10)] == [min(s for s in due if s > step) for step in range(10)]


def test_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(policy.time, 'monotonic', lambda: now[0])
    saves = SavePolicy('0.5 minutes', steps_per_epoch=4, total=10, step=0)
    assert not saves.due(4)
    now[0] = 30.0
    assert saves.due(5)
    saves.saved(5)
    assert not saves.due(6)
    assert saves.due(10)
