"""Every shipped experiment, shrunk in width, depth and data, trained for real on the embedded digits."""

import pytest
import runs
import torch
from flax import nnx
from small_models import narrow

import flaxnets
import train
from train import config_flags
from train.torch_reference import networks

CONFIGS = [
    'branching_attn',
    'convnn:model=branching_spatial,layers=4',
    'block_cnn:blocks=10,batch_norm',
    'expert_cnn',
    'vit:position=learned,activation=gelu',
    'profiled_cnn:pruned',
    'vgg16',
    'mnist:exercise=1',
    'mnist:exercise=5b',
    'mnist:exercise=6c',
    'framework_vgg:layer=branching_attn',
    'framework_resnet:sampling=random,num_samples=9',
    'framework_vit:honest',
]
# The other published experiments and variations: read, checked, and their models built.
VARIATIONS = [
    'branching_attn:digits,layers=8',
    *(f'convnn:model={name},layers=8' for name in flaxnets.list_models('*nn_*') if name != 'block_cnn'),
    'convnn:model=attention,digits',
    *(f'block_cnn:blocks={n},digits' for n in (2, 4, 6, 8)),
    'block_cnn:batch_norm,both_halves',
    'profiled_cnn:crop',
    'vgg16:crop',
    'expert_cnn:digits',
    *(f'vit:position={p},activation={a}' for p in ('cosine', 'learned') for a in ('relu', 'tanh', 'gelu')),
    'vit:digits',
    'profiled_cnn:digits',
    'vgg16:pruned',
    'vgg16:digits',
    *(f'mnist:exercise={name}' for name in ('2', '3a', '3b', '4', '5', '6a', '6b')),
    'mnist:digits',
    'framework_vgg:ratio=0.25,data=cifar100',
    'framework_vgg:similarity=euclidean,similarity_of=both,aggregation=both',
    'framework_vgg:model=vgg16_bn,layer=convnn,sampling=random,num_samples=32',
    'framework_vgg:honest',
    'framework_vgg:small,ratio=1.0',
    'framework_vgg:digits',
    'framework_resnet:model=resnet34,layer=conv,data=cifar100',
    'framework_resnet:honest',
    'framework_resnet:digits',
    'framework_vit:layer=attention,data=cifar100',
    'framework_vit:sampling=random',
    'framework_vit:digits',
]


def parse(name, monkeypatch):
    monkeypatch.chdir(runs.ROOT)
    family, _, argument = name.partition(':')
    return config_flags.parse(['train', '--config', f'configs/{family}.py:{argument}'])[0]


@pytest.mark.parametrize('name', VARIATIONS)
def test_is_valid_and_has_a_twin_in_pytorch(name, monkeypatch):
    config = parse(name, monkeypatch)
    stored = (28, 1) if name.startswith('mnist') else (32, 3)
    side = (*config.data.image_size, stored[0])[0]
    shape = (side, side, config.data.channels or stored[1])
    options = {'num_classes': 10} | runs.options.model_options(config)
    model = nnx.eval_shape(
        lambda: flaxnets.create_model(config.model.name, image_shape=shape, rngs=nnx.Rngs(0), **options)
    )
    assert flaxnets.count_parameters(model) > 4000
    with torch.device('meta'):
        twin = networks.create(config.model.name, image_shape=shape, **options)
    named = sum(value.numel() for value in twin.parameters())
    assert named == flaxnets.count_parameters(model, published=True)
    if 'layers=8' in name:
        assert len(model.layers) == 8


@pytest.mark.parametrize(
    ('name', 'oversight', 'crop'),
    [
        ('block_cnn', True, 0),
        ('block_cnn:oversight', True, 0),
        ('block_cnn:both_halves', False, 0),
        ('profiled_cnn', None, 0),
        ('profiled_cnn:crop', None, 4),
        ('mnist:exercise=5b', True, 0),
    ],
)
def test_defaults_reproduce_what_was_published(name, oversight, crop, monkeypatch):
    config = parse(name, monkeypatch)
    assert config.model.get('oversight') is oversight
    assert config.data.augment.crop == crop


@pytest.mark.parametrize('name', CONFIGS)
def test_trains(name, tmp_path, monkeypatch):
    family = name.partition(':')[0]
    config = parse(name, monkeypatch)
    model = config.model.name
    channels, size = (
        (1, 28) if family == 'mnist' else (3, 32 if model in ('block_cnn', 'vgg16', 'vgg11') else 8)
    )
    if config.data.name != 'digits':
        normalised = bool(config.data.mean)
        runs.options.embedded_digits(config, image_size=size, channels=channels)
        config.data.mean, config.data.std = (((0.5,) * channels,) * 2) if normalised else ((), ())
    if family == 'vit':
        config.data.classes = (0, 2, 4, 6, 8)
    config.model.update(narrow(model))
    config.data.limit = 48
    config.data.batch_size = 32
    config.data.cache_dir = str(tmp_path / 'cache')
    config.epochs = 1
    config.schedule.warmup_epochs = 0.0
    config.log.tensorboard = False
    config.log.report = False
    config.parallel = 'single'
    summary = train.run(config, tmp_path / 'run')
    assert summary['steps'] == 2
    assert 0 < summary['train_loss'] < 10
    assert len(summary['class_accuracy']) == (5 if family == 'vit' else 10)


def test_every_config_file_is_tried():
    files = {path.stem for path in (runs.ROOT / 'configs').glob('*.py')}
    assert files == {name.partition(':')[0] for name in CONFIGS}


def test_headers_name_source_and_command():
    for path in (runs.ROOT / 'configs').glob('*.py'):
        header = path.read_text().split('"""')[1]
        assert 'document 00' in header, path
        assert f'python -m train --config configs/{path.name}' in header, path
        assert 'ublished' in header, path
