"""What the framework's layers promise beyond the golden numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flaxnets
from flaxnets import UserError
from flaxnets.layers.framework.branch_conv import BranchConv
from flaxnets.layers.framework.branching2d import Branching2d, share_of
from flaxnets.layers.framework.convnn2d import ConvNN2d
from flaxnets.layers.framework.convnn2d_attn import ConvNN2dAttn
from flaxnets.layers.framework.convnn_attention import ConvNNAttention
from flaxnets.layers.framework.knn_attention import KNNAttention
from flaxnets.layers.framework.map_options import ConvNN2dOptions
from flaxnets.layers.framework.token_options import TokenLayerOptions

SIZE = (7, 6)
X = jnp.asarray(np.random.default_rng(0).standard_normal((2, *SIZE, 3)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(0).standard_normal((2, 13, 8)), jnp.float32)


def layer(kind=ConvNN2d, size=SIZE, **options):
    return kind(3, 4, size, ConvNN2dOptions(**options), rngs=nnx.Rngs(0))


def mixer(kind=ConvNNAttention, **options):
    options = {'num_neighbors': 4, 'dropout': 0.0, **options}
    return kind(8, 13, TokenLayerOptions(**options), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(('side', 'padding'), [(3, 0), (3, 1), (5, 0), (5, 2)])
def test_by_position_the_layer_is_a_convolution(side, padding):
    """Away from the border; with a border as wide as half the kernel, everywhere."""
    made = layer(
        num_neighbors=side**2, padding=padding, similarity_of='position', similarity='euclidean', size=(9, 9)
    )
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 9, 9, 3)), jnp.float32)
    kernel = made.kernel[...].reshape(side, side, 3, 4)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    away = 0 if padding else side // 2
    inside = np.s_[:, away : 9 - away, away : 9 - away]
    np.testing.assert_allclose((made(x) - made.bias[...])[inside], expected[inside], rtol=1e-4, atol=1e-5)


IMAGE_LAYERS = [
    (ConvNN2d, {}),
    (ConvNN2d, {'aggregation': 'both', 'similarity_of': 'both', 'similarity': 'euclidean'}),
    (ConvNN2d, {'similarity_of': 'position'}),
    (ConvNN2d, {'sampling': 'random', 'num_samples': 20}),
    (ConvNN2dAttn, {}),
]


def kept(function, *arguments):
    """The largest array, in values, that the backward pass of `function` keeps."""
    _, backward = jax.vjp(function, *arguments)
    return max(np.size(leaf) for leaf in jax.tree.leaves(backward))


@pytest.mark.parametrize(('kind', 'options'), IMAGE_LAYERS)
def test_nothing_gathered_is_kept_for_the_backward_pass(kind, options):
    """Not [B, C, T, K], nor [B, T, T]: the largest array is the image with its border, or the indices."""
    size, channels, neighbours = (16, 16), 12, 9
    made = kind(channels, channels, size, ConvNN2dOptions(**options), rngs=nnx.Rngs(0))
    graph, state = nnx.split(made)
    x = jnp.ones((2, *size, channels))
    pool = {'candidates': np.arange(20)} if 'sampling' in options else {}
    tokens = 2 * 18 * 18
    largest = kept(lambda state, x: nnx.merge(graph, state)(x, **pool), state, x)
    assert largest <= tokens * max(channels + 2, neighbours)


@pytest.mark.parametrize('kind', [ConvNNAttention, KNNAttention])
def test_token_layers_keep_no_square_of_the_tokens(kind):
    made = kind(8, 64, TokenLayerOptions(num_neighbors=4, dropout=0.0), rngs=nnx.Rngs(0))
    graph, state = nnx.split(made)
    x = jnp.ones((2, 64, 8))
    assert kept(lambda state, x: nnx.merge(graph, state)(x), state, x) <= 2 * 64 * 24


@pytest.mark.parametrize('layer', ['convnn_attention', 'knn_attention', 'branch_conv'])
def test_a_whole_model_keeps_no_square_of_the_tokens(layer):
    """257 tokens: the largest array kept is what the blocks' linear layers give, or the patches."""
    model = flaxnets.create_model(
        'vit_tiny',
        image_shape=(64, 64, 3),
        layer=layer,
        blocks=2,
        width=16,
        mlp_width=32,
        patch_size=4,
        num_neighbors=4,
        rngs=nnx.Rngs(0),
    )
    model.train()
    graph, state = nnx.split(model)
    images = jnp.ones((2, 64, 64, 3))
    largest = kept(lambda state, x: nnx.merge(graph, state)(x, rngs=nnx.Rngs(0)), state, images)
    assert largest <= 2 * 2 * 257 * 48  # of both blocks, which are kept as one array


def test_small_maps_have_every_token_as_a_candidate():
    """Random candidates and grids are for maps that have more tokens."""
    everything = layer(padding=0)(X)
    for sampling, size in (('random', 43), ('grid', 7)):
        made = layer(padding=0, sampling=sampling, num_samples=size)
        assert not made.draws_candidates
        np.testing.assert_array_equal(made(X), everything)


@pytest.mark.parametrize('options', [{'sampling': 'random', 'num_samples': 9}, {'similarity_of': 'position'}])
def test_candidates_come_from_the_stream_or_are_given(options):
    made = layer(**{'sampling': 'random', 'num_samples': 9, **options})
    pool = jax.random.permutation(nnx.Rngs(candidates=5).candidates(), 9 * 8)[:9]
    np.testing.assert_array_equal(made(X, rngs=nnx.Rngs(candidates=5)), made(X, candidates=pool))
    with pytest.raises(UserError, match=r'candidates: expected \[9\] indices'):
        made(X, candidates=pool[:8])
    with pytest.raises(UserError, match=r'rngs=nnx\.Rngs'):
        made(X)
    with pytest.raises(UserError, match=r'candidates: expected none'):
        layer()(X, candidates=pool)


def test_a_grid_lies_on_the_real_tokens():
    made = layer(sampling='grid', num_samples=3)
    rows, columns = np.divmod(np.asarray(made.sample.fixed), SIZE[1] + 2)
    assert sorted(set(rows)) == [1, 4, 7]
    assert sorted(set(columns)) == [1, 3, 6]


def test_without_the_oversight_a_token_gets_what_it_gathered():
    """The last token alone changes when only it is changed, as long as nobody chooses it."""
    made = mixer(oversight=False, num_neighbors=1, sampling='random', num_samples=3)
    changed = TOKENS.at[:, -1].add(1.0)
    before, after = (made(x, candidates=np.arange(3)) for x in (TOKENS, changed))
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    published = mixer(num_neighbors=1, sampling='random', num_samples=3)
    before, after = (published(x, candidates=np.arange(3)) for x in (TOKENS, changed))
    assert (before[:, :-1] != after[:, :-1]).any()


def test_ratios():
    assert [share_of(7, ratio) for ratio in (0, 0.5, 1)] == [0, 3, 7]
    build = functools.partial(Branching2d, 3, 4, SIZE, options=ConvNN2dOptions(), rngs=nnx.Rngs(0))
    assert build(0.0).nearest is None
    assert build(1.0).conv is None
    assert mixer(BranchConv, ratio=0.0).nearest is None


MISTAKES = [
    (lambda: share_of(8, 1.5), 'model.ratio: expected a share of the channels from 0 to 1, got 1.5'),
    (lambda: share_of(8, -0.1), 'model.ratio: expected a share'),
    (lambda: share_of(8, 0.1), 'model.ratio: expected 0, 1 or a share that leaves both branches channels'),
    (lambda: layer(num_neighbors=73), 'model.num_neighbors: expected 1 to 72 among the 72 candidates of a 7'),
    (
        lambda: layer(sampling='random', num_samples=8),
        'model.num_neighbors: expected 1 to 8 among the 8 cand',
    ),
    (lambda: layer(sampling='grid', num_samples=2), 'model.num_neighbors: expected 1 to 4 among the 4 cand'),
    (
        lambda: layer(size=(1, 1), padding=0, num_neighbors=1, similarity_of='both'),
        'model.similarity_of: exp',
    ),
    (
        lambda: layer(size=(1, 1), padding=0, num_neighbors=1, aggregation='both'),
        'model.similarity_of: expec',
    ),
    (lambda: layer(shuffle_scale=2), 'model.shuffle_scale: expected a divisor of the 7 x 6 map, got 2'),
    (lambda: layer(blend=2.0), 'model.blend: expected a share from 0 to 1, got 2.0'),
    (
        lambda: layer(similarity_of='colour'),
        "model.similarity_of: expected one of 'features', 'position', 'b",
    ),
    (lambda: layer(ConvNN2dAttn, sampling='random'), "model.sampling: expected 'all' in this layer"),
    (lambda: layer(ConvNN2dAttn, similarity_of='both'), "model.similarity_of: expected 'features' in this"),
    (
        lambda: mixer(num_neighbors=14),
        'model.num_neighbors: expected 1 to 13 among the 13 candidates of 13 t',
    ),
    (lambda: mixer(KNNAttention, num_neighbors=14), 'model.num_neighbors: expected 1 to 13'),
    (lambda: mixer(heads=3), 'model.heads: expected a divisor of the 8 channels, got 3'),
    (lambda: mixer(coordinates=True), "model.convolution: expected 'standard' beside coordinates"),
]


@pytest.mark.parametrize(('build', 'start'), MISTAKES, ids=[start for _, start in MISTAKES])
def test_mistakes_are_one_line(build, start):
    with pytest.raises(UserError) as error:
        build()
    assert str(error.value).startswith(start)
    assert '\n' not in str(error.value)
