"""What a report shows as 'before training' of a run that began with the weights of a file or of a run."""

import dataclasses

import jax
import numpy as np
import pytest
import runs
from flax import nnx

import train
from train import outcome
from train.checkpointing import init_from
from train.restored import restored


@pytest.fixture(scope='module')
def runs_in_a_row(tmp_path_factory):
    """A run, and one that began with its weights, resumed once."""
    folder = tmp_path_factory.mktemp('runs')
    train.run(runs.digits(folder), folder / 'first')
    config = runs.digits(folder, epochs=1)
    config.init_from.path = str(folder / 'first')
    train.run(config, folder / 'second')
    config.epochs = 2
    train.run(config, folder / 'second')
    return folder


def values(model):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))


def before(workdir):
    with restored(workdir, 'last', 'test') as run:
        return outcome.initial(run.exp)


def test_a_run_from_weights_shows_what_it_began_with(runs_in_a_row):
    with restored(runs_in_a_row / 'first', 'best', 'test') as run:
        expected = run.exp.trained(run.state)
    jax.tree.map(np.testing.assert_array_equal, values(before(runs_in_a_row / 'second')), values(expected))


def test_other_weights_are_not_shown_as_those(runs_in_a_row, monkeypatch):
    found = init_from.read(runs_in_a_row / 'first')
    name = next(iter(found.given))
    other = dataclasses.replace(found, given=found.given | {name: found.given[name] + 1})
    monkeypatch.setattr(init_from, 'read', lambda path: other)
    assert before(runs_in_a_row / 'second') is None


def test_weights_that_are_gone_are_no_error(runs_in_a_row, tmp_path):
    (runs_in_a_row / 'first').rename(tmp_path / 'moved')
    try:
        assert before(runs_in_a_row / 'second') is None
    finally:
        (tmp_path / 'moved').rename(runs_in_a_row / 'first')
