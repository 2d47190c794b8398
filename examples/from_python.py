"""Models and runs from Python, for example in a notebook.

python examples/from_python.py
"""

from flax import nnx

import flaxnets
import train
from train import config

print(flaxnets.list_models('branching*'))
model = flaxnets.create_model('branching_attn', num_layers=2, rngs=nnx.Rngs(0))
print(f'{flaxnets.count_parameters(model):,} parameters')

settings = config.defaults()
settings.model.name = 'cnn'
settings.epochs = 1
config.embedded_digits(settings, image_size=16, channels=1)
summary = train.run(settings, 'runs/from-python')
print(f'{summary["test_accuracy"]:.2f}%')
