"""Every shipped `:digits` config learns: the real run, shortened, reaches the stated accuracy."""

import pytest
import runs

import train
from train import config_flags

# Config -> (epochs, test accuracy in percent that it must beat); chance is 10, of vit's five classes 20.
LEARNS = {
    'branching_attn:digits': (1, 40),
    'convnn:model=cnn,digits': (1, 70),
    'block_cnn:blocks=2,digits': (5, 50),
    'expert_cnn:digits': (3, 35),
    'vit:digits': (5, 40),
    'profiled_cnn:digits': (1, 60),
    'vgg16:digits': (7, 50),
    'mnist:digits': (10, 70),
    'framework_vgg:digits': (3, 60),
    'framework_resnet:digits': (6, 60),
    'framework_vit:digits': (1, 40),
}


@pytest.mark.parametrize('name', LEARNS)
def test_beats_chance(name, tmp_path, monkeypatch):
    monkeypatch.chdir(runs.ROOT)
    family, _, argument = name.partition(':')
    config, _ = config_flags.parse(['train', '--config', f'configs/{family}.py:{argument}'])
    config.epochs, least = LEARNS[name]
    config.parallel = 'single'
    config.log.tensorboard = False
    config.log.report = False
    config.data.cache_dir = str(tmp_path / 'cache')
    summary = train.run(config, tmp_path / 'run')
    assert summary['best_test_accuracy'] > least


def test_no_config_is_left_out():
    files = {path.stem for path in (runs.ROOT / 'configs').glob('*.py') if 'digits' in path.read_text()}
    assert files == {name.partition(':')[0] for name in LEARNS}
