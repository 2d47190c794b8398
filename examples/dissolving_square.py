"""Draws a convolution's square as it dissolves into similar pixels.

    python examples/dissolving_square.py docs/images/dissolving_square.png

The neighbours are those of one ConvNN layer, untrained, on the pixels of a photograph that comes with
scikit-learn: nearest in position, in position and features, in features.
"""

import sys

import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from sklearn.datasets import load_sample_image

from flaxnets.layers.framework.convnn2d import ConvNN2d, ConvNN2dOptions
from train.reporting import choices, neighbours

SIDE = 32
CROP = (100, 0, 527, 427)  # left, upper, right, lower

photograph = Image.fromarray(load_sample_image('flower.jpg'))
picture = np.asarray(photograph.crop(CROP).resize((SIDE, SIDE), Image.Resampling.BOX))
pixels = jnp.asarray(picture / 255)[None]

columns = {}
for title, options in {
    'position': {'similarity_of': 'position'},
    'both, blend 0.05': {'similarity_of': 'both', 'blend': 0.05},
    'both, blend 0.2': {'similarity_of': 'both', 'blend': 0.2},
    'features': {'similarity_of': 'features'},
}.items():
    settings = ConvNN2dOptions(similarity='euclidean', num_neighbors=25, padding=0, **options)
    layer = ConvNN2d(3, 3, (SIDE, SIDE), settings, rngs=nnx.Rngs(0))
    (columns[title],) = choices.chosen(layer, pixels)
    print(f'{title}: {100 * columns[title].nearby():.1f}% of the neighbours lie in the 3 x 3 around')

drawn = neighbours.draw(picture[None], columns, [''], side=3.0)
target = sys.argv[1] if len(sys.argv) > 1 else 'dissolving_square.png'
drawn.savefig(target, dpi=110, facecolor='white')
print(target)
