"""One step: what it computes, what it does with padding, and that nothing recompiles."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import flaxnets
from train import config as options_of
from train import optim, step
from train import state as states
from train.data import pipeline
from train.data.pipeline import Batch, Resident


def setup(name='cnn', optimizer=None, ema=0.0, **options):
    options = {'num_classes': 3, 'image_shape': (8, 8, 1)} | options
    model = flaxnets.create_model(name, **options, rngs=nnx.Rngs(0))
    structure, params, stats = states.split(model)
    optimizer = optimizer or optax.adam(1e-2)

    def prepare(batch, key):
        return batch.image / 255.0, jax.nn.one_hot(batch.label, options['num_classes'])

    task = step.Task(structure, optimizer, prepare, 3, options['num_classes'], ema=ema)
    return task, states.create(params, stats, optimizer, seed=0, ema=bool(ema))


def batch_of(size, padding=0, seed=0, shape=(8, 8, 1)):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size + padding, *shape)).astype(np.uint8)
    labels = rng.integers(0, 3, size + padding).astype(np.int32)
    mask = (np.arange(size + padding) < size).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(mask))


def test_split_and_merge_are_inverse():
    model = flaxnets.create_model('mnist_cnn', residual=1, batch_norm=True, rngs=nnx.Rngs(0))
    structure, params, stats = states.split(model)
    assert any(key.endswith('mean') for key in stats)
    images = jnp.ones((2, 28, 28, 1))
    again = structure.merge(params, stats)
    model.eval()
    again.eval()
    np.testing.assert_array_equal(model(images), again(images))


def test_loss_and_update_are_the_plain_ones():
    task, state = setup(optimizer=optax.sgd(0.1))
    batch = batch_of(5)

    def loss(params):
        logits = task.structure.merge(params, state.stats)(batch.image / 255.0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.label).mean()

    expected, gradients = jax.value_and_grad(loss)(state.params)
    new, metrics = jax.jit(functools.partial(step.train_step, task))(state, batch)
    assert metrics['loss'] == pytest.approx(float(expected), rel=1e-6)
    chex.assert_trees_all_close(
        new.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients), rtol=1e-5, atol=1e-7
    )
    assert int(new.step) == 1


@pytest.mark.parametrize('name', ['cnn', 'mnist_cnn'])
def test_padding_changes_nothing(name):
    options = {'image_shape': (28, 28, 1), 'residual': 1, 'batch_norm': True} if name == 'mnist_cnn' else {}
    task, state = setup(name, optax.sgd(0.1), **options)
    shape = options.get('image_shape', (8, 8, 1))
    padded = batch_of(5, padding=3, shape=shape)
    plain = Batch(padded.image[:5], padded.label[:5], padded.mask[:5])
    train = jax.jit(functools.partial(step.train_step, task))
    with_padding, metrics = train(state, padded)
    without, expected = train(state, plain)
    chex.assert_trees_all_close(metrics, expected, rtol=1e-5)
    chex.assert_trees_all_close(with_padding.params, without.params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(with_padding.stats, without.stats, rtol=1e-5)


def test_a_step_is_a_function_of_its_arguments():
    task, state = setup('branching_random', width=4, num_candidates=9, num_neighbors=3)
    batch = batch_of(4)
    train = jax.jit(functools.partial(step.train_step, task))
    chex.assert_trees_all_equal(train(state, batch), train(state, batch))
    later = state.replace(step=state.step + 1)
    assert train(later, batch)[1]['loss'] != train(state, batch)[1]['loss']


def test_a_chunk_is_its_steps_and_compiles_once():
    task, state = setup()
    rng = np.random.default_rng(0)
    data = Resident(
        jnp.asarray(rng.integers(0, 256, (20, 8, 8, 1)), jnp.uint8),
        jnp.asarray(rng.integers(0, 3, 20), jnp.int32),
    )
    rows = pipeline.rows(np.arange(20, dtype=np.int32), 8)
    batch = functools.partial(pipeline.take, data)
    one = jax.jit(lambda s, row: step.train_step(task, s, batch(row)))
    many = jax.jit(chex.assert_max_traces(lambda s, rows, n: step.train_chunk(task, s, batch, rows, n), n=1))
    expected, losses = state, []
    for row in rows:
        expected, metrics = one(expected, row)
        losses.append(metrics['loss'])
    got, metrics = many(state, rows, 3)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics['loss'], losses, rtol=1e-5)
    partly, metrics = many(state, rows, 1)
    assert int(partly.step) == 1
    assert not metrics['loss'][1:].any()


def test_averaged_parameters_follow():
    task, state = setup(ema=0.9)
    new, _ = step.train_step(task, state, batch_of(4))
    expected = jax.tree.map(lambda old, now: 0.9 * old + 0.1 * now, state.params, new.params)
    chex.assert_trees_all_close(new.ema, expected, rtol=1e-6)


@pytest.mark.parametrize('soft', [False, True])
def test_queries_and_keys_stay_unless_neighbours_are_soft(soft):
    options = {'width': 4, 'num_candidates': 9, 'num_neighbors': 3, 'soft': soft, 'image_shape': (8, 8, 1)}
    model = flaxnets.create_model('branching_attn', num_classes=3, **options, rngs=nnx.Rngs(0))
    fixed = states.without_gradient(model)
    assert len(fixed) == (0 if soft else 4)
    made = options_of.defaults()
    made.optimizer.update({'name': 'adamw', 'weight_decay': 0.1})
    task, state = setup('branching_attn', optim.create(made, steps_per_epoch=1, fixed=fixed), **options)
    new, _ = jax.jit(functools.partial(step.train_step, task))(state, batch_of(4))
    moved = {name for name in state.params if (new.params[name] != state.params[name]).any()}
    assert moved == set(state.params) - fixed


def test_a_step_whose_gradients_overflow_changes_the_scale_alone():
    config = options_of.defaults()
    config.precision = 'float16'
    task, state = setup('cnn', optim.create(config, steps_per_epoch=1), dtype=jnp.float16)
    scale = state.opt_state.scale
    train = jax.jit(functools.partial(step.train_step, task))
    good, metrics = train(state, batch_of(4))
    assert metrics['gradient_norm'] > 0
    assert good.opt_state.scale.scale == scale.scale
    assert good.opt_state.scale.fin_steps == 1
    huge = scale.replace(scale=jnp.asarray(2.0**40, jnp.float32))
    skipped, metrics = train(state.replace(opt_state=state.opt_state._replace(scale=huge)), batch_of(4))
    assert skipped.opt_state.scale.scale == 2.0**39
    assert metrics['gradient_norm'] == 0
    assert np.isfinite(metrics['loss'])
    chex.assert_trees_all_equal(skipped.params, state.params)
    chex.assert_trees_all_equal(skipped.opt_state.inner, state.opt_state.inner)
    moved = jax.tree.map(lambda new, old: jnp.any(new != old), good.params, state.params)
    assert all(jax.tree.leaves(moved))
    assert {value.dtype for value in good.params.values()} == {jnp.dtype('float32')}


def test_softmax_twice_is_the_loss_of_a_model_that_ends_in_softmax():
    logits, targets = jnp.array([[2.0, -1.0, 0.5]]), jnp.array([[0.0, 0.0, 1.0]])
    expected = -jax.nn.log_softmax(jax.nn.softmax(logits))[0, 2]
    assert step.cross_entropy(logits, targets, True)[0] == pytest.approx(float(expected))


def test_evaluation_counts_every_image_once():
    task, state = setup()
    batch = batch_of(5, padding=3)
    got = step.eval_step(task, state.params, state.stats, batch, jnp.zeros((), jnp.int32))
    logits = task.structure.merge(state.params, state.stats)(batch.image[:5] / 255.0)
    expected = np.zeros((3, 3))
    np.add.at(expected, (np.asarray(batch.label[:5]), np.asarray(logits.argmax(-1))), 1)
    np.testing.assert_array_equal(got['confusion'], expected)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label[:5])
    assert got['loss'] == pytest.approx(float(losses.sum()), rel=1e-5)


def test_rows_cover_an_epoch_once_and_pad_with_minus_one():
    order = pipeline.epoch_order(0, 3, 21)
    rows = pipeline.rows(order, 8, multiple=3)
    assert rows.shape == (3, 9)
    assert sorted(rows[rows >= 0]) == list(range(21))
    assert (rows[:2, 8] == -1).all()
    np.testing.assert_array_equal(rows[2, :5], order[16:])
    assert not np.array_equal(order, pipeline.epoch_order(0, 4, 21))
    assert not np.array_equal(order, pipeline.epoch_order(1, 3, 21))
    np.testing.assert_array_equal(order, pipeline.epoch_order(0, 3, 21))
