"""One step of training, one of evaluation, and a chunk of training steps: pure functions, no I/O.

A step's randomness is fold_in(run key, step), split into named streams; nothing else varies, so a
step is a function of (state, batch) and a resumed run repeats it to the bit.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from flaxnets.layers import batch as batch_scope
from train import optim
from train.data.pipeline import Batch
from train.state import Structure, TrainState, Values, statistics

# Randomness of an evaluation: one fixed key, so that a checkpoint has one accuracy.
EVALUATION_KEY = 0
STREAMS = ('candidates', 'dropout', 'augment')

Prepare = Callable[[Batch, jax.Array | None], tuple[Array, Array]]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a step does, apart from the state: all of it fixed while a run lasts.

    `prepare` maps a batch and a key (None: evaluation) to the model's input and to targets
    [batch, classes]. `num_labels` are the data's classes; a model may have more outputs. `axis_name`
    is the mapped axis under `pmap`; None elsewhere; `divided`: the compiler divides a batch among
    devices. No gradient is computed for the parameters `frozen`.
    """

    structure: Structure
    optimizer: optax.GradientTransformation
    prepare: Prepare
    num_labels: int
    num_classes: int
    softmax_twice: bool = False
    ema: float = 0.0
    batch_statistics: bool = False
    axis_name: str | None = None
    frozen: frozenset[str] = frozenset()
    divided: bool = False

    def sum(self, tree: Any) -> Any:
        """Adds over the devices that share a batch."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)


def cross_entropy(
    logits: Float[Array, 'batch classes'], targets: Float[Array, 'batch classes'], softmax_twice: bool
) -> Float[Array, ' batch']:
    """-sum of targets * log softmax(logits), image by image; `softmax_twice` takes softmax(logits) as
    the logits, which is what a model that ends in softmax gives PyTorch's loss (document 003)."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if softmax_twice:
        logits = jax.nn.softmax(logits)
    return optax.softmax_cross_entropy(logits, targets)


def train_step(task: Task, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
    """The state after one update, and the batch's loss, number of correct predictions and gradient norm.

    The loss is the mean over the real images of the whole batch: sums and counts are added over the
    devices and divided once, so padding and sharding change nothing.
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys = {name: jax.random.fold_in(step_key, i) for i, name in enumerate(STREAMS)}
    images, targets = task.prepare(batch, keys['augment'])
    count = task.sum(batch.mask.sum())

    def loss_fn(params: Values) -> tuple[Array, tuple[Array, Values]]:
        params = {k: jax.lax.stop_gradient(v) if k in task.frozen else v for k, v in params.items()}
        model = task.structure.merge(params, state.stats)
        model.train()
        with batch_scope.scope(mask=batch.mask, axis_name=task.axis_name, divided=task.divided):
            logits = model(images, rngs=nnx.Rngs(candidates=keys['candidates'], dropout=keys['dropout']))
        losses = cross_entropy(logits, targets, task.softmax_twice)
        return jnp.sum(losses * batch.mask) / count, (logits, statistics(model))

    scaled: dict[str, Any] = {}
    if isinstance(state.opt_state, optim.LossScaled):
        scale = state.opt_state.scale
        scale, finite, (loss, (logits, stats)), gradients = scale.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        scaled = {'scale': scale, 'finite': finite}
    else:
        (loss, (logits, stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    loss, gradients = task.sum((loss, gradients))
    params, opt_state = updated(task, state, gradients, count, scaled)
    ema = optax.incremental_update(params, state.ema, 1 - task.ema) if task.ema else state.ema
    if task.ema and isinstance(opt_state, optax.MultiStepsState):  # it follows updates, not batches
        ema = jax.tree.map(lambda new, old: jnp.where(opt_state.mini_step, old, new), ema, state.ema)
    correct = jnp.sum((logits.argmax(-1) == batch.label) * batch.mask)
    norm = optax.tree.norm(gradients)
    metrics = {
        'loss': loss,
        'correct': task.sum(correct),
        'count': count,
        # Gradients beyond float16's range are not divergence: the step changes only the scale.
        'gradient_norm': jnp.where(scaled['finite'], norm, 0) if scaled else norm,
    }
    new = dataclasses.replace(
        state, step=state.step + 1, params=params, stats=stats, opt_state=opt_state, ema=ema
    )
    return new, metrics


def updated(
    task: Task, state: TrainState, gradients: Values, count: Array, scaled: dict[str, Any]
) -> tuple[Values, Any]:
    """The parameters and the optimiser's state after an update by these gradients of `count` images.

    `scaled` has the loss's `scale` and whether the gradients are `finite`, for an optimiser that scales it.
    """
    rule = optax.with_extra_args_support(task.optimizer)
    updates, opt_state = rule.update(gradients, state.opt_state, state.params, count=count, **scaled)
    return optax.apply_updates(state.params, updates), opt_state


def train_chunk(
    task: Task, state: TrainState, batch_of: Callable[[Any], Batch], rows: Any, count: Int[Array, '']
) -> tuple[TrainState, dict[str, Array]]:
    """`count` steps on the first of `rows`, with the metrics of each in arrays as long as `rows`.

    `count` is traced, so chunks of every length share one compilation.
    """
    length = jax.tree.leaves(rows)[0].shape[0]
    row = lambda i: jax.tree.map(lambda x: x[i], rows)  # noqa: E731
    shapes = jax.eval_shape(lambda s: train_step(task, s, batch_of(row(0)))[1], state)
    metrics = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)

    def body(i: Array, carry: tuple[TrainState, dict[str, Array]]) -> tuple[TrainState, dict[str, Array]]:
        state, metrics = carry
        state, new = train_step(task, state, batch_of(row(i)))
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), metrics, new)

    return jax.lax.fori_loop(0, count, body, (state, metrics))


def evaluation_rngs(index: Int[Array, '']) -> nnx.Rngs:
    """The random streams of an evaluation's batch number `index`: the same ones in every evaluation."""
    key = jax.random.fold_in(jax.random.key(EVALUATION_KEY), index)
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(STREAMS)}
    return nnx.Rngs(candidates=keys['candidates'], dropout=keys['dropout'])


def evaluated(
    task: Task, params: Values, stats: Values, batch: Batch, index: Int[Array, '']
) -> tuple[Float[Array, 'batch classes'], Float[Array, 'batch classes']]:
    """Logits and targets of a batch in evaluation.

    `index` is the number of the batch: each batch draws its own candidates, the same in every evaluation.
    """
    images, targets = task.prepare(batch, None)
    model = task.structure.merge(params, stats)
    if task.batch_statistics:
        model.train()
    else:
        model.eval()
    with batch_scope.scope(mask=batch.mask, axis_name=task.axis_name, divided=task.divided):
        return model(images, rngs=evaluation_rngs(index)), targets


def predict_step(
    task: Task, params: Values, stats: Values, batch: Batch, index: Int[Array, '']
) -> Float[Array, 'batch classes']:
    """The softmax of the logits of a batch in evaluation, also for its padding, in float32 at least."""
    logits, _ = evaluated(task, params, stats, batch, index)
    probabilities = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if task.axis_name is None:
        return probabilities
    return jax.lax.all_gather(probabilities, task.axis_name, tiled=True)


def top5(
    logits: Float[Array, 'batch classes'], labels: Int[Array, ' batch'], mask: Float[Array, ' batch']
) -> Int[Array, '']:
    """How many of the images in the mask have fewer than five classes above their own."""
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    among = jnp.sum(logits > own, axis=-1) < 5
    return jnp.sum(among & (mask > 0), dtype=jnp.int32)


def eval_step(
    task: Task, params: Values, stats: Values, batch: Batch, index: Int[Array, '']
) -> dict[str, Array]:
    """Loss added over the batch's real images, and their confusion matrix [true, predicted].

    With more than 10 classes also `top5`.
    """
    logits, targets = evaluated(task, params, stats, batch, index)
    losses = cross_entropy(logits, targets, task.softmax_twice)
    # One more column for predictions that are no class of the data, if the model has such outputs.
    columns = task.num_labels + (task.num_classes > task.num_labels)
    cells = batch.label * columns + jnp.minimum(logits.argmax(-1), columns - 1)
    confusion = jnp.zeros(task.num_labels * columns, jnp.int32).at[cells].add(batch.mask.astype(jnp.int32))
    sums = {
        'loss': jnp.sum(losses * batch.mask),
        'confusion': confusion.reshape(task.num_labels, columns),
    }
    if task.num_labels > 10:
        sums['top5'] = top5(logits, batch.label, batch.mask)
    return task.sum(sums)
