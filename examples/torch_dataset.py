"""A flaxnets model trained on a PyTorch data set, in a loop of your own.

python examples/torch_dataset.py
"""

import jax.numpy as jnp
import optax
import torch
from flax import nnx

import flaxnets
from train import data
from train.data import augment, pipeline


class Lights(torch.utils.data.Dataset):
    """A hundred small images, dark or bright."""

    classes = ('off', 'on')

    def __len__(self):
        return 100

    def __getitem__(self, i):
        return torch.rand(1, 8, 8) / 2 + i % 2 / 2, i % 2


images = data.from_torch(Lights())  # a DataLoader works too
resident = pipeline.Resident(jnp.asarray(images.images), jnp.asarray(images.labels))
shape, classes = images.images.shape[1:], len(images.class_names)
model = flaxnets.create_model('cnn', width=4, image_shape=shape, num_classes=classes, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, row):
    """One update on the images that `row` numbers; the last row of an epoch is padded, and masked."""
    batch = pipeline.take(resident, row)

    def loss_fn(model):
        logits = model(augment.normalise(batch.image, 0.5, 0.5))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
        return jnp.sum(losses * batch.mask) / batch.mask.sum()

    loss, gradients = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, gradients)
    return loss


for epoch in range(5):
    for row in pipeline.rows(pipeline.epoch_order(0, epoch, len(images)), 32):
        loss = step(model, optimizer, row)
    print(f'epoch {epoch + 1}  loss {loss:.4f}')
