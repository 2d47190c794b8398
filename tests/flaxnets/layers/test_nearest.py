"""The nearest-neighbour layer against a plain, slow statement of it in numpy, in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxnets import UserError
from flaxnets.layers.candidates import AllTokens, GridTokens, RandomTokens, spatial_grid
from flaxnets.layers.nearest import NearestLayer, NearestOptions

IN, OUT, K, N = 3, 2, 4, 9
SIZE = (6, 10)


def unshuffle(x):
    """[H, W, C] -> [H/2, W/2, 4C]: channel 4c + 2·dy + dx."""
    height, width, channels = x.shape
    y = np.zeros((height // 2, width // 2, 4 * channels))
    for i, j, c in np.ndindex(*x.shape):
        y[i // 2, j // 2, 4 * c + 2 * (i % 2) + j % 2] = x[i, j, c]
    return y


def shuffle(y):
    rows, columns, channels = y.shape
    x = np.zeros((2 * rows, 2 * columns, channels // 4))
    for i, j, c in np.ndindex(*x.shape):
        x[i, j, c] = y[i // 2, j // 2, 4 * c + 2 * (i % 2) + j % 2]
    return x


def similarity(a, b, options):
    if options.get('similarity') == 'euclidean':
        return -((a - b) ** 2).sum()
    cosine = a @ b / max(np.linalg.norm(a), 1e-12) / max(np.linalg.norm(b), 1e-12)
    return cosine if options.get('projection', 'none') == 'none' else max(0.0, cosine)


def neighbours_of(t, keys, queries, drawn, options):
    """Indices of the K neighbours of token t, nearest first."""
    pool = options.get('pool', 'all')
    if pool == 'all':
        return sorted(range(len(keys)), key=lambda n: -similarity(keys[t], queries[n], options))[:K]
    allowed = [n for n in drawn if not (pool == 'random' and n == t)]
    ranked = sorted(allowed, key=lambda n: -similarity(keys[t], queries[n], options))
    return [t, *ranked[: K - 1]]


def statement(layer, image, drawn, **options):
    """The layer on one image [H, W, C], token by token."""
    if options.get('location_channels'):
        location = np.zeros((*image.shape[:2], 2))
        for i, j in np.ndindex(*image.shape[:2]):
            location[i, j] = (i, j) if i == j == 0 else np.array([i, j]) / np.hypot(i, j)
        image = np.concatenate([image, location], -1)
    when = options.get('shuffle', 'both')
    grid = unshuffle(image) if when in ('both', 'before') else image
    tokens = grid.reshape(-1, grid.shape[-1])
    if options.get('pool') == 'spatial':
        drawn = spatial_grid(grid.shape[:2], N)
    keys = queries = values = tokens
    if hasattr(layer, 'query'):
        keys, queries = layer.key.kernel[...].T @ tokens, layer.query.kernel[...].T @ tokens
    if hasattr(layer, 'value'):
        values = layer.value.kernel[...].T @ tokens

    out = np.zeros((len(tokens), layer.kernel.shape[-1]))
    for t in range(len(tokens)):
        near = neighbours_of(t, keys, queries, drawn, options)
        weights = np.ones(K)
        if options.get('soft'):
            weights = np.exp([similarity(keys[t], queries[n], options) for n in near])
            weights /= weights.sum()
        out[t] = layer.bias[...]
        for rank, n in enumerate(near):
            out[t] += weights[rank] * values[n] @ layer.kernel[rank]
    out = out.reshape(*grid.shape[:2], -1)
    out = shuffle(out) if when in ('both', 'after') else out
    if options.get('location_channels'):
        out = out @ layer.image.pointwise.kernel[0, 0] + layer.image.pointwise.bias[...]
    return out


CASES = [
    {},
    {'similarity': 'euclidean'},
    {'location_channels': True},
    {'shuffle': 'before'},
    {'shuffle': 'after'},
    {'shuffle': 'none', 'location_channels': True},
    {'projection': 'value'},
    {'projection': 'qkv'},
    {'soft': True},
    {'pool': 'random'},
    {'pool': 'random', 'similarity': 'euclidean', 'projection': 'value'},
    {'pool': 'random', 'projection': 'qkv', 'location_channels': True},
    {'pool': 'random', 'projection': 'qkv', 'soft': True},
    {'pool': 'spatial'},
    {'pool': 'spatial', 'projection': 'value', 'shuffle': 'none'},
    {'pool': 'spatial', 'similarity': 'euclidean', 'soft': True},
]


def names(options):
    return ' '.join(f'{k}={v}' for k, v in options.items()) or 'defaults'


def make_options(*, pool='all', num_candidates=N, num_neighbors=K, **options):
    pools = {'all': AllTokens, 'random': RandomTokens, 'spatial': GridTokens}
    size = {} if pool == 'all' else {'num_candidates': num_candidates}
    return NearestOptions(pool=pools[pool](**size), num_neighbors=num_neighbors, **options)


def build(param_dtype=jnp.float64, **options):
    types = {name: options.pop(name) for name in ('dtype',) if name in options}
    return NearestLayer(
        IN, OUT, SIZE, make_options(**options), param_dtype=param_dtype, rngs=nnx.Rngs(0), **types
    )


def images(dtype=np.float64, batch=2):
    return np.random.default_rng(1).standard_normal((batch, *SIZE, IN)).astype(dtype)


def drawn(options):
    return np.array([13, 2, 7, 0, 5, 11, 9, 14, 4]) if options.get('pool') == 'random' else None


@pytest.mark.parametrize('options', CASES, ids=names)
def test_statement(options):
    with jax.enable_x64(True):
        layer, x = build(**options), images()
        pinned = drawn(options)
        given = {} if pinned is None else {'candidates': jnp.asarray(pinned)}
        actual = nnx.jit(lambda layer, x: layer(x, **given))(layer, jnp.asarray(x))
        expected = np.stack([statement(layer, image, pinned, **options) for image in x])
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@nnx.jit
def gradients(layer, x, pool):
    return nnx.grad(lambda layer: jnp.sum(jnp.square(layer(x, candidates=pool))))(layer)


def zeros(gradient, name):
    return not np.any(np.asarray(getattr(gradient, name).kernel[...]))


def test_queries_and_keys_learn_only_through_soft_weights():
    x, pool = jnp.asarray(images(np.float32)), jnp.asarray(drawn({'pool': 'random'}))
    hard = gradients(build(jnp.float32, pool='random', projection='qkv'), x, pool)
    soft = gradients(build(jnp.float32, pool='random', projection='qkv', soft=True), x, pool)
    assert [zeros(hard, name) for name in ('query', 'key', 'value')] == [True, True, False]
    assert [zeros(soft, name) for name in ('query', 'key', 'value')] == [False, False, False]


@pytest.mark.parametrize('similarity', ['cosine', 'euclidean'])
def test_soft_weights_of_black_pixels_have_finite_gradients(similarity):
    layer = build(jnp.float32, soft=True, similarity=similarity)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layer(x))))(jnp.zeros((1, *SIZE, IN)))
    assert np.all(np.isfinite(gradient))


def test_a_random_candidate_never_chooses_itself_again():
    """Not even where nothing else is left, nor where it is the nearest by far."""
    tokens = 15
    layer = build(jnp.float32, pool='random', num_candidates=tokens, num_neighbors=tokens)
    pool = jnp.arange(tokens)[::-1]
    chosen = pool[layer.choose(layer.image.split(jnp.asarray(images(np.float32))), pool)]
    for image, t in np.ndindex(2, tokens):
        assert sorted(np.asarray(chosen)[:, image, t]) == [n for n in range(tokens) if n != t]


def test_a_grid_token_appears_twice_and_a_token_among_all_is_its_own_first():
    tokens = build(jnp.float32).image.split(jnp.asarray(images(np.float32)))
    grid = spatial_grid((3, 5), N)
    chosen = grid[np.asarray(build(jnp.float32, pool='spatial').choose(tokens, jnp.asarray(grid)))]
    assert all((chosen[0, :, t] == t).all() for t in grid)
    nearest = build(jnp.float32).choose(tokens, None)
    np.testing.assert_array_equal(nearest[0], np.tile(np.arange(15), (2, 1)))


def test_one_neighbour_is_the_token_itself():
    layer = build(jnp.float32, pool='random', num_neighbors=1, shuffle='none')
    x = jnp.asarray(images(np.float32))
    expected = np.asarray(x) @ np.asarray(layer.kernel[0]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(x, rngs=nnx.Rngs(candidates=0)), expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_chooses_in_float32():
    """At the highest matmul precision, too; only values are computed in bfloat16."""
    layer = build(jnp.float32, dtype=jnp.bfloat16, pool='random', projection='qkv')
    tokens = layer.image.split(jnp.asarray(images(np.float32))).astype(jnp.bfloat16)
    pool = jnp.asarray(drawn({'pool': 'random'}))
    exact = build(jnp.float32, pool='random', projection='qkv')
    np.testing.assert_array_equal(layer.choose(tokens, pool), exact.choose(tokens.astype(jnp.float32), pool))
    jaxpr = str(jax.make_jaxpr(layer.choose)(tokens, pool))
    products = re.findall(r'dot_general\[(.*?)\n *\]', jaxpr, re.DOTALL)
    assert len(products) == 3, 'keys, queries, similarities'
    assert all('Precision.HIGHEST' in product and 'bfloat16' not in product for product in products)
    x = jnp.asarray(images(np.float32))
    assert jax.eval_shape(lambda x: layer(x, candidates=pool), x).dtype == jnp.bfloat16


def test_candidates_come_from_the_stream_or_are_given():
    layer, x = build(jnp.float32, pool='random'), jnp.asarray(images(np.float32))
    pool = jax.random.permutation(nnx.Rngs(candidates=5).candidates(), 15)[:N]
    streamed = layer(x, rngs=nnx.Rngs(candidates=5))
    np.testing.assert_array_equal(streamed, layer(x, candidates=pool))
    with pytest.raises(UserError, match=r'rngs=nnx\.Rngs'):
        layer(x)
    with pytest.raises(UserError, match=r'candidates: expected \[9\] indices .* got shape \[8\]'):
        layer(x, candidates=pool[:8])
    with pytest.raises(UserError, match=r'candidates: expected none .*: its candidates are not random'):
        build(jnp.float32)(x, candidates=pool)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'similarity': 'dot'}, 'model.similarity: expected one of'),
        ({'projection': 'kv'}, 'model.projection: expected one of'),
    ],
)
def test_unknown_choices(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)
