"""A seed gives the same initial values in every version, so that a run can be repeated years later."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from small_models import SMALL

import flaxnets

# Of seed 0, computed with version 0.1.0; of vgg16 with the version whose initial values became torchvision's.
CHECKSUMS = {
    'cnn': 0.982475,
    'attention': -3.369260,
    'convnn_all': 5.905302,
    'branching_all': 7.981117,
    'convnn_random': 5.905302,
    'convnn_spatial': 5.905302,
    'convnn_attn': 10.731414,
    'branching_random': 7.981117,
    'branching_spatial': 7.981117,
    'branching_attn': 11.296357,
    'block_cnn': -0.985658,
    'expert_cnn': 0.569286,
    'vit': 14.373489,
    'profiled_cnn': 4.083682,
    'vgg16': -5.325298,
    'mlp': 3.123270,
    'mnist_cnn': 1.033816,
    'vit_tiny': -8.473785,
    'vgg11': 5.873295,
    'resnet18': -2.157807,
}


def checksum(name: str, options: dict[str, Any]) -> float:
    """The parameters in the order of their paths, projected on a fixed random vector."""

    @jax.jit
    def create(key: jax.Array) -> nnx.State:
        return nnx.state(flaxnets.create_model(name, **options, rngs=nnx.Rngs(key)), nnx.Param)

    values = nnx.to_flat_state(create(jax.random.key(0)))
    named = {'/'.join(map(str, path)): np.asarray(value[...], np.float64) for path, value in values}
    flat = np.concatenate([named[path].ravel() for path in sorted(named)])
    return flat @ np.random.default_rng(0).standard_normal(flat.size)


@pytest.mark.parametrize('name', SMALL)
def test_a_seed_gives_the_values_it_has_always_given(name):
    found = checksum(name, SMALL[name])
    assert name in CHECKSUMS, f'a new model: add its checksum, {found:.6f}'
    assert found == pytest.approx(CHECKSUMS[name], abs=1e-5)
