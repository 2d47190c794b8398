"""One contract for every registered model."""

import fnmatch
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, traverse_util
from small_models import CASES, DEEPER, SMALL

import flaxnets
from flaxnets import UserError

every_model = pytest.mark.parametrize('case', SMALL)
every_case = pytest.mark.parametrize('case', CASES)

# Values without a gradient. Queries and keys of a ConvNN layer only choose; a bias before batch
# normalisation is subtracted again; a key's bias is the same for all tokens, and softmax drops it.
NO_GRADIENT = {
    'convnn_attn': ['layers/*/query/kernel', 'layers/*/key/kernel'],
    'branching_attn': ['layers/*/query/kernel', 'layers/*/key/kernel'],
    'block_cnn batch_norm': ['blocks/*/conv*/bias'],
    'expert_cnn': ['stem/bias', 'blocks/*/conv/bias'],
    'vit': ['blocks/*/key/bias'],
    'vit learned': ['blocks/*/key/bias'],
    'profiled_cnn': ['convs/*/bias'],
    'profiled_cnn pruned': ['convs/*/bias'],
    'vgg11': ['layers/*/bias'],
    'vgg11 branching_attn': ['layers/*/bias'],
    'resnet18': ['stages/*/*/layer*/bias'],
    'resnet18 random': ['stages/*/*/layer*/bias'],
}
DRAWS = ('*_random', '*_attn*')  # candidates, in training and in evaluation
DROPS = ('profiled_cnn*', 'vgg16', 'vit_tiny*', 'vgg11*', 'resnet18', 'resnet18 random')


def matches(case: str, patterns) -> bool:
    return any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)


def build(case: str, seed: int | jax.Array = 0, **types) -> nnx.Module:
    name, options = CASES[case]
    return flaxnets.create_model(name, num_classes=7, **options, **types, rngs=nnx.Rngs(seed))


def split(case: str, **types) -> tuple[nnx.GraphDef, nnx.State]:
    """The model, with values drawn by NumPy: initialisers would have to be compiled."""
    rng = np.random.default_rng(3)
    graph, state = nnx.split(nnx.eval_shape(lambda: build(case, **types)))

    def fill(path, value: jax.ShapeDtypeStruct) -> jax.Array:
        scale = max(1, np.prod(value.shape[:-1])) ** -0.5
        drawn = scale * rng.uniform(0.2, 1, value.shape)
        if path[-2].key not in ('var', 'bias'):  # positive biases, that no ReLU is shut for good
            drawn *= rng.choice([-1, 1], value.shape)
        return jnp.asarray(drawn, value.dtype)

    return graph, jax.tree.map_with_path(fill, state)


def evaluating(case: str, **types) -> tuple[nnx.GraphDef, nnx.State]:
    model = nnx.merge(*split(case, **types))
    model.eval()
    return nnx.split(model)


def images(case: str, dtype=jnp.float64) -> jax.Array:
    _, options = CASES[case]
    return jnp.asarray(np.random.default_rng(7).standard_normal((4, *options['image_shape'])), dtype)


def forward(graph: nnx.GraphDef, state: nnx.State, images: jax.Array, seed=0) -> jax.Array:
    rngs = nnx.Rngs(candidates=jax.random.key(seed), dropout=jax.random.key(seed))
    return nnx.merge(graph, state, copy=True)(images, rngs=rngs)


@functools.cache
def wide(case: str):
    """The float64 model as a function, the same jitted, and its state."""
    graph, state = evaluating(case, param_dtype=jnp.float64)
    plain = functools.partial(forward, graph)
    return plain, jax.jit(plain), state


@functools.cache
def reference(case: str) -> jax.Array:
    _, jitted, state = wide(case)
    return jitted(state, images(case))


def flat(state) -> dict[str, jax.Array]:
    flat = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    return {'/'.join(map(str, path)): value for path, value in flat.items()}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_no_model_is_left_out():
    assert {*SMALL, *DEEPER} == set(flaxnets.list_models())
    for deeper, (name, option) in DEEPER.items():
        one, other = (flaxnets.registry.entry(each) for each in (deeper, name))
        assert one.recipe.build is other.recipe.build
        assert one.torch_map is other.torch_map
        assert {key for key, value in one.options().items() if value != other.options()[key]} == {option}


@every_model
def test_transformations(case):
    """jit, vmap over images and over replicas, and pmap over devices compute what plain calls do, and
    random candidates follow the key alone."""
    plain, jitted, state = wide(case)
    x, expected = images(case), reference(case)
    assert expected.shape == (4, 7)
    assert expected.dtype == jnp.float64
    assert np.isfinite(expected).all()
    same = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    same(plain(state, x), expected)
    assert (jitted(state, x) == expected).all()
    assert bool((jitted(state, x, 1) != expected).any()) == matches(case, DRAWS)

    other = jax.tree.map(lambda v: jnp.asarray(np.asarray(v) * 1.01, v.dtype), state)
    replicas = jax.tree.map(lambda *v: jnp.asarray(np.stack(v)), state, other)
    each = jax.vmap(lambda state, image: plain(state, image[None])[0], (None, 0))
    first, second = jax.jit(jax.vmap(each, (0, None)))(replicas, x)
    same(first, expected)
    same(second, jitted(other, x))

    devices = jax.pmap(plain, in_axes=(None, 0), devices=jax.devices()[:2])
    same(devices(state, x.reshape(2, 2, *x.shape[1:])).reshape(expected.shape), expected)


@every_case
def test_training(case):
    """Gradients flow where the specification lets them, and a training step follows its key alone."""
    graph, params, rest = nnx.split(nnx.merge(*split(case, param_dtype=jnp.float64)), nnx.Param, ...)
    x = images(case)
    labels = jnp.arange(4)

    @jax.jit
    def step(params, seed):
        def loss(params):
            logits = forward(graph, nnx.merge_state(params, rest), x, seed)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return jax.value_and_grad(loss)(params)

    loss, gradient = step(params, 0)
    again, changed = step(params, 0)[0], step(params, 1)[0]
    assert loss == again
    assert bool(loss != changed) == matches(case, DRAWS + DROPS)

    norms = {path: float(jnp.linalg.norm(value)) for path, value in flat(gradient).items()}
    assert np.isfinite(list(norms.values())).all()
    rounding = 1e-12 * max(norms.values())
    without = {path for path, norm in norms.items() if norm <= rounding}
    assert without == {path for path in norms if matches(path, NO_GRADIENT.get(case, ()))}


@every_model
def test_precision(case):
    """float32 agrees with float64, half precision with float32 parameters stays near, and parameters keep
    their type. ConvNN models choose other neighbours when rounded differently, so their outputs may
    part (see `layers/nearest.py`) and only the types are compared."""
    expected = np.asarray(reference(case))
    for dtype, tolerance in ((None, 1e-4), (jnp.bfloat16, 5e-2), (jnp.float16, 1e-2)):
        graph, state = evaluating(case, dtype=dtype)
        assert {v.dtype for v in jax.tree.leaves(nnx.filter_state(state, nnx.Param))} == {
            jnp.dtype('float32')
        }
        logits = jax.jit(functools.partial(forward, graph))(state, images(case, jnp.float32))
        assert logits.dtype == (dtype or jnp.float32)
        if not matches(case, ('convnn*', 'branching*', 'vgg11', 'resnet18')):
            atol = tolerance * np.abs(expected).max()
            np.testing.assert_allclose(logits.astype(jnp.float64), expected, rtol=0, atol=atol)


@every_model
def test_initial_values_follow_the_key(case):
    # One program, and a generator that is compiled quickly; any one would do.
    values = jax.jit(lambda key: jax.tree.leaves(nnx.state(build(case, key), nnx.Param)))
    first, again, other = (values(jax.random.key(seed, impl='unsafe_rbg')) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize('shape', [(32, 32, 3), (32, 40, 1), (64, 48, 2)])
@pytest.mark.parametrize('name', flaxnets.list_models())
def test_image_shapes(name, shape):
    """Square or not, one channel or several."""

    def run(images):
        patches = {'patch_size': 8} if name == 'vit_tiny' else {}
        model = flaxnets.create_model(name, image_shape=shape, num_classes=7, **patches, rngs=nnx.Rngs(0))
        return model(images, rngs=nnx.Rngs(candidates=0, dropout=0))

    logits = jax.eval_shape(run, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32


@every_model
def test_other_images_than_it_was_built_for(case):
    model = build(case)
    height, width, channels = model.image_shape
    with pytest.raises(UserError, match=r'^images: expected \[batch, .*set model.image_shape$'):
        model(jnp.zeros((1, width, height, channels)), rngs=nnx.Rngs(candidates=0, dropout=0))


IMPOSSIBLE = [
    ('convnn_all', {'image_shape': (7, 8, 3)}, 'model.image_shape'),
    ('attention', {'image_shape': (8, 7, 3)}, 'model.image_shape'),
    ('attention', {'num_heads': 5}, 'model.num_heads'),
    ('convnn_random', {'num_candidates': 4}, 'model.num_'),
    ('convnn_random', {'num_candidates': 257}, 'model.num_candidates'),
    ('convnn_all', {'num_neighbors': 257}, 'model.num_neighbors'),
    ('branching_all', {'channel_ratio': (8, 8)}, 'model.channel_ratio'),
    ('block_cnn', {'image_shape': (12, 32, 3)}, 'model.image_shape'),
    ('block_cnn', {'blocks': -1}, 'model.blocks'),
    ('expert_cnn', {'width': 4}, 'model.reduction'),
    ('expert_cnn', {'kernel_size': 4}, 'model.kernel_size'),
    ('vit', {'heads': 3}, 'model.heads'),
    ('vit', {'image_shape': (32, 30, 3)}, 'model.patch_size'),
    ('vit', {'position': 'sine'}, 'model.position'),
    ('vit', {'activation': 'swish'}, 'model.activation'),
    ('profiled_cnn', {'image_shape': (7, 32, 3)}, 'model.image_shape'),
    ('profiled_cnn', {'hidden': (8,)}, 'model.hidden: expected 2 whole numbers of at least 1, got (8,)'),
    ('profiled_cnn', {'widths': (8,)}, 'model.widths: expected at least 2'),
    ('profiled_cnn', {'dropout': 'high'}, 'model.dropout: expected 2 numbers'),
    ('profiled_cnn', {'dropout': (0.2, 1.0)}, 'dropout'),
    ('vit_tiny', {'image_shape': (32, 40, 3)}, "model.patch_size: expected a divisor of the image's sides"),
    ('vit_tiny', {'sampling': 'grid', 'num_samples': 198}, 'model.num_samples: expected 1 to 197 beside sam'),
    (
        'vit_tiny',
        {'layer': 'convnn_attention', 'num_neighbors': 198},
        'model.num_neighbors: expected 1 to 197',
    ),
    ('vit_tiny', {'layer': 'branch_conv', 'ratio': 0.001}, 'model.ratio: expected 0, 1 or a share'),
    (
        'vit_tiny',
        {'layer': 'convnn_attention', 'heads': 5},
        'model.heads: expected a divisor of the 192 channels',
    ),
    ('vgg11', {'ratio': 1.5}, 'model.ratio: expected a share of the channels from 0 to 1, got 1.5'),
    ('vgg11', {'ratio': 0.01}, 'model.ratio: expected 0, 1 or a share that leaves both branches channels'),
    ('vgg13', {'num_neighbors': 17}, 'model.num_neighbors: expected 1 to 16 among the 16 candidates of a 2'),
    ('vgg19', {'sampling': 'grid', 'num_samples': 33}, 'model.num_samples: expected 1 to 32 beside sampling'),
    ('vgg11', {'image_shape': (32, 31, 3)}, 'model.image_shape'),
    ('vgg11', {'similarity_of': 'position', 'padding': 0, 'image_shape': (16, 16, 3)}, 'model.image_shape'),
    ('resnet18', {'shuffle_scale': 3}, 'model.shuffle_scale: expected a divisor of the 32 x 32 map, got 3'),
    ('resnet18', {'image_shape': (1, 32, 3), 'padding': 0, 'similarity_of': 'both'}, 'model.similarity_of'),
    ('resnet34', {'stride': 'imagenet'}, "model.layer: expected 'conv' beside stride=imagenet"),
    ('resnet18', {'layer': 'attention'}, "model.layer: expected one of 'conv', 'convnn', 'branching'"),
    ('vgg16', {'image_shape': (32, 31, 3)}, 'model.image_shape'),
    ('vgg16', {'widths': (8, 8)}, 'model.widths: expected 5 whole numbers of at least 1'),
    ('vgg16', {'hidden': 5}, 'model.hidden: expected 2 whole numbers of at least 1, got 5'),
    ('vgg16', {'num_classes': 0}, 'model.num_classes: expected a whole number of at least 1, got 0'),
    ('cnn', {'image_shape': (28, 28)}, 'model.image_shape: expected (height, width, channels), got (28, 28)'),
    ('cnn', {'image_shape': 28}, 'model.image_shape: expected'),
    ('cnn', {'num_layers': True}, 'model.num_layers: expected a whole number of at least 1, got True'),
    ('cnn', {'num_classes': 'ten'}, "model.num_classes: expected a whole number of at least 1, got 'ten'"),
    ('block_cnn', {'batch_norm': 1}, 'model.batch_norm: expected true or false, got 1'),
    ('mlp', {'hidden': (0,)}, 'model.hidden'),
    ('mlp', {'image_shape': (28, 28)}, 'model.image_shape'),
    ('mnist_cnn', {'order': 'pool'}, 'model.order'),
    ('mnist_cnn', {'image_shape': (3, 28, 1)}, 'model.image_shape'),
    ('mnist_cnn', {'batch_norm': True}, 'model.residual'),
    ('mnist_cnn', {'residual': 3, 'order': 'pool_act'}, 'model.order'),
    ('mnist_cnn', {'residual': 3, 'oversight': True}, 'model.oversight'),
    ('mnist_cnn', {'width': 8}, 'model.width: mnist_cnn has no such option. Did you mean widths'),
    ('mnist_cn', {}, "model.name: there is no model 'mnist_cn'. Did you mean mnist_cnn"),
]


@pytest.mark.parametrize(('name', 'options', 'start'), IMPOSSIBLE)
def test_impossible_options(name, options, start):
    """One line that names the option."""
    with pytest.raises(UserError) as error:
        nnx.eval_shape(lambda: flaxnets.create_model(name, **options, rngs=nnx.Rngs(0)))
    assert str(error.value).startswith(start)
    assert '\n' not in str(error.value)


COUNTS = [
    ('block_cnn', {}, 25_288),
    ('block_cnn', {'batch_norm': True}, 25_608),
    ('vit', {}, 4_237),
    ('vit', {'blocks': 4, 'heads': 6, 'width': 12, 'position': 'learned'}, 6_917),
    ('profiled_cnn', {}, 4_853_898),
    ('profiled_cnn', {'pruned': True}, 4_849_674),
    ('vgg16', {}, 138_357_544),
    ('vgg16', {'pruned': True}, 118_493_706),
    ('vit_tiny', {}, 5_479_306),
    ('vit_tiny', {'num_classes': 100}, 5_496_676),
    ('vit_tiny', {'layer': 'knn_attention'}, 5_479_306),
    ('vit_tiny', {'layer': 'convnn_attention'}, 5_500_042),
    ('vit_tiny', {'layer': 'convnn_attention', 'num_neighbors': 36}, 5_562_250),
    ('vit_tiny', {'layer': 'convnn_attention', 'convolution': 'standard'}, 9_460_618),
    ('vit_tiny', {'layer': 'convnn_attention', 'convolution': 'depthwise-separable'}, 5_942_410),
    ('vgg11', {}, 130_015_690),
    # torchvision's, as its documentation states them.
    ('vgg11', {'layer': 'conv', 'num_classes': 1000}, 132_868_840),
    ('vgg13', {'layer': 'conv', 'num_classes': 1000}, 133_053_736),
    ('vgg16_bn', {'layer': 'conv', 'num_classes': 1000}, 138_365_992),
    ('vgg19', {'layer': 'conv', 'num_classes': 1000}, 143_678_248),
    ('resnet18', {'layer': 'conv', 'stride': 'imagenet', 'num_classes': 1000}, 11_689_512),
    ('resnet34', {'layer': 'conv', 'stride': 'imagenet', 'num_classes': 1000}, 21_797_672),
    ('mlp', {}, 42_310),
    ('mnist_cnn', {}, 21_578),
    ('mnist_cnn', {'residual': 3}, 58_034),
    ('mnist_cnn', {'residual': 3, 'batch_norm': True}, 58_370),
]


@pytest.mark.parametrize('batch_norm', [False, True])
def test_the_oversight_halves_the_blocks(batch_norm):
    """What the document's code leaves without effect is left out, and counted as published."""

    def sizes(oversight):
        options = {'batch_norm': batch_norm, 'oversight': oversight, 'rngs': nnx.Rngs(0)}
        return flaxnets.create_model('block_cnn', **options)

    whole, half = (nnx.eval_shape(functools.partial(sizes, oversight)) for oversight in (False, True))
    count = flaxnets.count_parameters(whole)
    assert flaxnets.count_parameters(half, published=True) == count
    assert flaxnets.count_parameters(half) == count - 10 * (8 * 8 * 9 + 8 + 16 * batch_norm)


@pytest.mark.parametrize(('name', 'options', 'count'), COUNTS)
def test_published_parameter_counts(name, options, count):
    """The ConvNN family's counts are in `test_convnn.py`."""
    model = nnx.eval_shape(lambda: flaxnets.create_model(name, **options, rngs=nnx.Rngs(0)))
    assert flaxnets.count_parameters(model) == count
