import pytest
import tiny_sets


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    """No test reads or writes the user's folders."""
    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='session')
def cifar():
    return tiny_sets.arrays()


@pytest.fixture(scope='session')
def mnist():
    return tiny_sets.arrays((28, 28, 1))


@pytest.fixture(scope='session')
def cifar_places(cifar, tmp_path_factory):
    """{source: root}: the same images as TFDS, TFRecord, torchvision's files and a folder of PNGs."""
    root = tmp_path_factory.mktemp('cifar')
    folder = tiny_sets.write_tfds(cifar, 'cifar10', root / 'tfds')
    tiny_sets.as_tfrecord(folder, root / 'tfrecord' / 'cifar10' / folder.name)
    tiny_sets.write_cifar10(cifar, root / 'torch')
    tiny_sets.write_folder(cifar, root / 'folder' / 'cifar10', tiny_sets.CIFAR10)
    return {
        'tfds': root / 'tfds',
        'tfrecord': root / 'tfrecord',
        'torch': root / 'torch',
        'folder': root / 'folder',
    }
