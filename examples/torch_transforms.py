"""PyTorch transforms of your own, drawn again in every epoch, before a flaxnets model.

python examples/torch_transforms.py

Any function from an image to an image of the same size is a transform here:
  torchvision     v2.Compose([v2.ToPILImage(), v2.RandomRotation(10)])
  albumentations  chosen = albumentations.Compose([...]); lambda image: chosen(image=image)['image']
Deterministic transforms need no loop of your own: `data.from_torch` runs a Dataset's once.
"""

import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

import flaxnets
from train import config, data
from train.data import augment


class Augmented(torch.utils.data.Dataset):
    """A data set of ours through a transform of yours."""

    def __init__(self, images, transform):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        item = self.images[i]  # an array [height, width, channels] of bytes, and its label
        return np.array(self.transform(item['image'])).reshape(self.images.image_shape), item['label']


def shifted(image):
    """The image moved by up to a pixel."""
    return np.roll(image, tuple(torch.randint(-1, 2, (2,)).tolist()), axis=(0, 1))


settings = config.defaults()
settings.data.name = 'digits'
images = data.load(settings.data, 'train')
loader = torch.utils.data.DataLoader(Augmented(images, shifted), batch_size=64, shuffle=True, drop_last=True)
shape, classes = images.image_shape, len(images.class_names)
model = flaxnets.create_model('cnn', width=4, image_shape=shape, num_classes=classes, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, pixels, labels):
    """One update."""

    def loss_fn(model):
        logits = model(augment.normalise(pixels, 0.5, 0.5))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, gradients)
    return loss


for epoch in range(3):
    losses = [step(model, optimizer, *map(jnp.asarray, map(np.asarray, batch))) for batch in loader]
    print(f'epoch {epoch + 1}  loss {np.mean(losses):.4f}')
