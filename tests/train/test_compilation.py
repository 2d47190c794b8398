"""What is compiled, and when: nothing after the first epoch; the state's memory is used again."""

import jax
import jax.numpy as jnp
import pytest
import runs

from train import config as options
from train import data, loop, optim
from train.experiment import Experiment
from train.reporting.console import Reporter

COMPILED = '/jax/core/compile/backend_compile_duration'


@pytest.fixture
def compilations():
    """The programs XLA has compiled, or taken from the cache, by name of the event."""
    seen = []

    def listener(event, duration, **_):
        if event == COMPILED:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.parametrize('changes', [{}, {'replicas': 2}], ids=['one run', 'replicas'])
def test_nothing_is_compiled_after_the_first_epoch(changes, tmp_path, compilations, monkeypatch):
    after = []
    epoch = Reporter.epoch

    def counted(self, row, epochs):
        after.append(len(compilations))
        epoch(self, row, epochs)

    monkeypatch.setattr(Reporter, 'epoch', counted)
    # Batches that are not full, a rate that changes at every step, an evaluation of another batch size.
    changes = changes | {'epochs': 4, 'schedule__name': 'cosine', 'schedule__unit': 'step'}
    loop.run(runs.digits(tmp_path, data__eval_batch_size=48, **changes), tmp_path / 'run')
    assert after[0] > 0
    assert set(after) == {after[0]}


def test_the_learning_rate_is_an_array():
    config = options.defaults()
    config.update_from_flattened_dict({'schedule.name': 'cosine', 'schedule.unit': 'step', 'epochs': 2})
    rate = jax.jit(optim.schedule(config, steps_per_epoch=10))
    assert isinstance(rate(jnp.asarray(3)), jax.Array)
    assert rate(jnp.asarray(3)) > rate(jnp.asarray(4)) > 0
    assert rate._cache_size() == 1


@pytest.mark.parametrize('changes', [{}, {'model__name': 'profiled_cnn'}], ids=['cnn', 'statistics'])
def test_the_state_gives_its_memory_to_the_next_one(changes, tmp_path):
    config = runs.digits(tmp_path, **changes)
    if changes:
        config.model = {'name': 'profiled_cnn', 'widths': (2, 3, 4, 5, 6), 'hidden': (6, 5)}
    config = options.validate(config)
    exp = Experiment.create(config, data.load_splits(config.data, ['train', 'test']))
    rows = exp.epoch_rows(0)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(exp.initial))
    compiled = exp.runner.lower(exp.initial, exp.images['train'].feed(rows)).compile()
    assert compiled.memory_analysis().alias_size_in_bytes >= size
    before = jax.tree.leaves(exp.initial)
    state, _ = exp.runner.train(exp.initial, exp.images['train'].feed(rows), 1)
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
