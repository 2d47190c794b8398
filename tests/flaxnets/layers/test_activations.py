import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxnets.layers import activations

torch = pytest.importorskip('torch')


@pytest.mark.parametrize('name', activations.ACTIVATIONS)
def test_torchs_function_and_slope(name):
    x = np.linspace(-4, 4, 101, dtype=np.float32)  # 0 among them
    act = activations.ACTIVATIONS[name]
    theirs = torch.from_numpy(x).requires_grad_()
    out = {'relu': torch.relu, 'tanh': torch.tanh, 'gelu': torch.nn.functional.gelu}[name](theirs)
    out.sum().backward()
    np.testing.assert_allclose(act(jnp.asarray(x)), out.detach(), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(act))(jnp.asarray(x)), theirs.grad, atol=1e-6)
