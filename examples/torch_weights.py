"""Weights from a PyTorch network to a flaxnets model, the same logits, and back.

python examples/torch_weights.py
"""

import numpy as np
import torch
from flax import nnx

import flaxnets
from train.torch_reference import networks

theirs = networks.create('mnist_cnn', image_shape=(28, 28, 1)).eval()
ours = flaxnets.create_model('mnist_cnn', rngs=nnx.Rngs(0))
flaxnets.interop.from_torch(ours, theirs.state_dict())
ours.eval()

images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
logits = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).detach().numpy()
np.testing.assert_allclose(ours(images), logits, rtol=1e-4, atol=1e-5)
theirs.load_state_dict({key: torch.tensor(value) for key, value in flaxnets.interop.to_torch(ours).items()})
print(f'equal logits: {logits.shape[0]} images, {logits.shape[1]} classes')
