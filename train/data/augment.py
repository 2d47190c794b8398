"""Augmentation on the device: pure functions of images and keys, traced inside the training step.

What happens to an image depends on the step's key and the image's position in the whole batch, so the number
of devices that share the batch changes nothing. Pixels are uint8 or floats in [0, 1]; `normalise` comes last.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num, UInt8

Pixels = Num[Array, 'height width channels']
Images = Num[Array, 'batch height width channels']
Targets = Float[Array, 'batch classes']


class Draws(NamedTuple):
    """An image's random numbers, uniform on [0, 1), drawn at once: if one augmentation is off, the numbers of
    the others stay."""

    top: Array
    left: Array
    flip: Array
    brightness: Array
    contrast: Array
    centre_row: Array
    centre_column: Array
    cut: Array


def augment(
    images: Images,
    targets: Targets,
    mask: Float[Array, ' batch'],
    key: Key[Array, ''],
    options: Any,
    *,
    mean: Any = 0.0,
    axis_name: str | None = None,
) -> tuple[Images, Targets]:
    """Each image changed by its own draws, then mixed with another image of the batch and its target.

    `options` is config.data.augment. `mask` is 1 for images and 0 for the padding, which comes last in the
    whole batch; padding is never mixed into an image. `mean` ([0, 1], one value or one per channel) fills
    what cutout cuts. Images stay uint8 where nothing needs fractions.

    Row i must be the whole batch's row i: a global array under `jit`, however it is sharded. Under `pmap`
    or `shard_map` rows are a device's own, and `axis_name` names the mapped axis. Mixing needs a row of
    the next device: one transfer between devices in a step.
    """
    positions = jnp.arange(len(images))
    if axis_name is not None:
        positions += jax.lax.axis_index(axis_name) * len(images)
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
    draws = Draws(*jax.vmap(lambda k: jax.random.uniform(k, (len(Draws._fields),), jnp.float32))(keys).T)
    each = jax.vmap(lambda draw, image: augment_image(draw, image, options, mean))
    if not (options.mixup or options.cutmix):
        return each(draws, images), targets

    count = mask.sum().astype(positions.dtype)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    last = positions == count - 1
    next_draws, next_images, next_targets = jax.tree.map(
        lambda values: following(values, last, axis_name), (draws, images, targets)
    )
    # twice the work, but a tenth of the time: XLA's CPU backend would compute the pixels of
    # following(each(...)) again wherever they are used
    own, other = (each(draws, images), targets), (each(next_draws, next_images), next_targets)
    return jax.vmap(functools.partial(mix, options=options))(keys, draws, own, other)


def following(
    values: Num[Array, 'batch ...'], last: Bool[Array, ' batch'], axis_name: str | None
) -> Num[Array, 'batch ...']:
    """The next row of the whole batch for each row, the whole batch's first for the `last`."""
    firsts, after = values[:1], jnp.zeros((), int)
    if axis_name is not None:
        firsts = jax.lax.all_gather(values[0], axis_name)
        after = (jax.lax.axis_index(axis_name) + 1) % len(firsts)
    rolled = jnp.concatenate([values[1:], firsts[after][None]])
    return jnp.where(last.reshape(-1, *[1] * (values.ndim - 1)), firsts[0], rolled)


def augment_image(draws: Draws, image: Pixels, options: Any, mean: Any = 0.0) -> Pixels:
    """Random crop, flip, brightness, contrast and cutout of one image, those that `options` switch on."""
    if options.crop:
        image = crop(image, draws.top, draws.left, options.crop, options.crop_fill)
    if options.flip:
        image = jnp.where(draws.flip < 0.5, jnp.flip(image, axis=1), image)
    if options.brightness:
        shift = options.brightness * (2 * draws.brightness - 1)
        image = jnp.clip(unit(image) + shift, 0, 1)
    if options.contrast:
        factor = 1 + options.contrast * (2 * draws.contrast - 1)
        image = unit(image)
        average = image.mean((0, 1), keepdims=True)
        image = jnp.clip(factor * (image - average) + average, 0, 1)
    if options.cutout:
        image = cutout(unit(image), draws, options.cutout, mean)
    return image


def crop(image: Pixels, top: Array, left: Array, padding: int, fill: str) -> Pixels:
    """A window as large as the image, uniformly placed in the image padded by `padding` pixels on each side.

    `fill` 'zero' pads with black, 'reflect' mirrors without repeating the edge.
    """
    # slicing out of a padded image and one gather with computed indices take the same time on a CPU
    width = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, width, mode='reflect' if fill == 'reflect' else 'constant')
    start = (pick(top, 2 * padding + 1), pick(left, 2 * padding + 1), 0)
    return jax.lax.dynamic_slice(padded, start, image.shape)


def cutout(image: Pixels, draws: Draws, side: int, mean: Any) -> Pixels:
    """`mean` in a square of `side` pixels whose centre is any pixel; the part outside the image is lost.

    Source: T. DeVries, G. Taylor, "Improved Regularization of CNNs with Cutout", 2017.
    """
    return jnp.where(box(draws, image.shape, side, side), jnp.asarray(mean, image.dtype), image)


def mix(
    key: Key[Array, ''], draws: Draws, own: tuple[Array, Array], partner: Sequence[Array], options: Any
) -> tuple[Pixels, Float[Array, ' classes']]:
    """mixup or cutmix of an image and its target with a partner; if both are on, each with probability 1/2.

    share ~ Beta(alpha, alpha). mixup: share * own + (1 - share) * other. cutmix: a box of the other with
    sqrt(1 - share) of height and width, centred on any pixel and clipped; the share becomes what is left.
    Targets mix by the share: share * own + (1 - share) * other.

    Sources: H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018; S. Yun et al., "CutMix:
    Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019.
    """
    (image, target), (other, other_target) = own, partner
    image, other = unit(image), unit(other)
    chance = 0.5 if options.mixup and options.cutmix else float(bool(options.cutmix))
    cut = draws.cut < chance
    alpha = jnp.where(cut, options.cutmix, options.mixup)
    share = jax.random.beta(jax.random.fold_in(key, 1), alpha, alpha, dtype=jnp.float32)
    height, width = image.shape[:2]
    side = jnp.sqrt(1 - share)
    pasted = box(draws, image.shape, (height * side).astype(int), (width * side).astype(int))
    weight = jnp.where(cut, 1 - pasted, share).astype(image.dtype)
    left = jnp.where(cut, 1 - pasted.mean(dtype=jnp.float32), share).astype(target.dtype)
    return weight * image + (1 - weight) * other, left * target + (1 - left) * other_target


def box(draws: Draws, shape: tuple[int, ...], height: Any, width: Any) -> Bool[Array, 'h w 1']:
    """True in a box of `height` by `width` pixels around any pixel of an image of `shape`."""
    top = pick(draws.centre_row, shape[0]) - height // 2
    left = pick(draws.centre_column, shape[1]) - width // 2
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return inside[..., None]


def pick(draw: Array, count: int) -> Array:
    """One of 0..count-1, from a number uniform on [0, 1)."""
    return jnp.floor(draw * count).astype(int)


def unit(image: Num[Array, '...']) -> Float[Array, '...']:
    """Pixels in [0, 1]: bytes divided by 255, floats as they are."""
    return image / jnp.float32(255) if image.dtype == jnp.uint8 else image


def normalise(
    images: UInt8[Array, '...'] | Float[Array, '...'], mean: Any, std: Any, dtype: Any = jnp.float32
) -> Float[Array, '...']:
    """(x - mean) / std in `dtype`, one value per channel; x: pixels in [0, 1] (uint8 are divided by 255)."""
    scaled = images.astype(dtype) / 255 if images.dtype == jnp.uint8 else images.astype(dtype)
    return (scaled - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)
