"""Folders of images as people have them: what became which split and class is always said."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import runs
import tiny_sets
from PIL import Image
from tiny_sets import config

from flaxnets.errors import UserError
from train import data
from train.data.describe import facts

COUNTS = {'cat': 6, 'dog': 4}


def write(root, counts=COUNTS, suffix='.png'):
    """`root/class/0.png ...`, no two images alike."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new('RGB', (5, 4), (i, number, 200)).save(root / name / f'{i}{suffix}')
    return root


@pytest.fixture
def root(tmp_path):
    """A folder to write images into, beside the cache."""
    (tmp_path / 'user').mkdir()
    return tmp_path / 'user'


def loaded(root, splits=('train', 'test'), **chosen):
    return data.load_splits(config(name='mine', data_dir=root, **chosen), splits)


def sizes(root):
    return {split: len(images) for split, images in loaded(root).items()}


@pytest.mark.parametrize(
    ('train', 'test'),
    [('Train', 'Test'), ('TRAIN', 'eval'), ('train', 'Test'), ('Training', 'Val'), ('train', 'evaluation')],
)
def test_folders_of_splits_by_any_name(train, test, root):
    write(root / train)
    write(root / test, {'cat': 2, 'dog': 1})
    sets = loaded(root)
    assert {split: len(images) for split, images in sets.items()} == {'train': 10, 'test': 3}
    assert sets['train'].class_names == ('cat', 'dog')
    lines = facts(sets)
    assert lines['data'] == 'mine: 10 train, 3 test images, 4x5x3, 2 classes'
    assert (lines['train'], lines['test']) == (str(root / train), str(root / test))
    assert lines['classes'] == 'cat 6+2, dog 4+1 (train+test images)'


def test_two_folders_for_one_split(root):
    write(root / 'train')
    write(root / 'Training')
    with pytest.raises(UserError, match='Training and train both stand for train images; rename one'):
        loaded(root)


def test_classes_may_have_the_names_of_splits(root):
    write(root, {'control': 5, 'test': 5})
    assert loaded(root)['train'].class_names == ('control', 'test')


def test_folders_without_classes(root):
    write(root, {'train': 5, 'test': 5})
    with pytest.raises(UserError, match=r'expected a folder of images for each class; .*labels\.csv'):
        loaded(root)


def test_a_set_without_training_images(root):
    write(root / 'test')
    assert len(loaded(root, ['test'])['test']) == 10
    with pytest.raises(UserError, match='mine has test images, but none to train on'):
        loaded(root)


def test_a_fifth_for_testing_is_said(root):
    lines = facts(loaded(write(root / 'a'), ['train', 'validation', 'test'], validation=0.2))
    assert lines['test'] == f'a stratified 20% of {root}/a'
    assert lines['validation'] == f'a stratified 20% of {root}/a'
    assert lines['train'] == f'{root}/a, all but those for test and those for validation'
    assert lines['classes'] == 'cat 4+1+1, dog 2+1+1 (train+validation+test images)'


def test_one_class_is_refused(root):
    pictures = write(root / 'pictures' / 'animals').parent
    with pytest.raises(UserError, match="at least two classes, but all training images are 'animals'"):
        loaded(pictures)
    # the same files, one folder lower, are other classes
    assert loaded(pictures / 'animals')['train'].class_names == ('cat', 'dog')
    with pytest.raises(UserError, match=r"all training images are 'dog'.* data\.classes"):
        loaded(pictures / 'animals', classes=('dog',))
    with pytest.raises(UserError, match='at least two classes'):
        loaded(pictures / 'animals', limit=1)


@pytest.mark.parametrize('suffix', ['.tif', '.TIFF', '.ppm', '.webp', '.bmp', '.JPG'])
def test_what_torchvision_reads(suffix, root):
    assert sizes(write(root, suffix=suffix)) == {'train': 8, 'test': 2}


def test_grey_maps(root):
    for name in COUNTS:
        (root / name).mkdir()
        for i in range(5):
            Image.new('L', (3, 3), i).save(root / name / f'{i}.pgm')
    assert loaded(root)['train'].image_shape == (3, 3, 1)


def test_what_is_skipped_is_counted(root):
    write(root / 'train')
    write(root / 'holdout')
    (root / 'train' / 'cat' / 'notes.txt').touch()
    (root / 'train' / 'dog' / 'a.heic').touch()
    (root / 'train' / 'dog' / 'b.heic').touch()
    (root / 'train' / 'dog' / '._0.png').write_bytes(b'what macOS leaves')
    (root / 'train' / 'loose.png').touch()
    images = loaded(root)['train']
    assert len(images) == 8
    assert images.origin == (
        f'{root}/train (4 files skipped: 2 .heic, 1 .txt, 1 images outside the class folders; '
        'not used: holdout), all but those for test'
    )


def test_validation_images_beside_test_images_are_said(root):
    for split in ('train', 'val', 'test'):
        write(root / split)
    lines = facts(loaded(root))
    assert lines['train'] == f'{root / "train"}; its validation images are not used'
    assert lines['test'] == str(root / 'test')


@pytest.mark.parametrize('source', ['auto', 'folder'])
def test_images_without_classes_are_said(source, root):
    for i in range(3):
        Image.new('L', (4, 4)).save(root / f'{i}.png')
    with pytest.raises(UserError, match=r'has 3 images, but nothing says of which classes; .* labels\.csv'):
        loaded(root, source=source)


@pytest.mark.parametrize('place', ['file', 'class'])
def test_names_that_are_no_unicode(place, root):
    write(root)
    odd = os.fsdecode(b'caf\xe9')
    if place == 'file':
        (root / 'cat' / '0.png').rename(root / 'cat' / f'{odd}.png')
    else:
        (root / 'cat').rename(root / odd)
    for _ in range(2):  # decoded, then from the cache
        images = loaded(root)['train']
        assert len(images) == 8
    assert images.class_names == (('cat', 'dog') if place == 'file' else (r'caf\xe9', 'dog'))
    facts({'train': images})['classes'].encode()
    bad = root / 'dog' / f'{odd}.png'
    bad.write_bytes(b'no image')
    with pytest.raises(UserError, match='not a readable image'):
        loaded(root)


@pytest.mark.parametrize('variables', [{'PYTHONIOENCODING': 'ascii'}, {'LC_ALL': 'C'}])
def test_names_that_the_terminal_cannot_show(variables):
    """A run's console and a command's error print them all the same."""
    program = """
import sys
from rich.console import Console
from flaxnets.errors import UserError
from train import cli
def command(argv):
    print('caf\\xe9', 'caf\\udce9')
    Console(soft_wrap=True).print('caf\\xe9', 'caf\\udce9', markup=False)
    raise UserError('no caf\\xe9, no caf\\udce9')
sys.exit(cli.guarded(command, []))
"""
    environment = os.environ | {'PYTHONPATH': str(runs.ROOT)} | variables
    done = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count(b'caf') == 4
    assert done.stderr.startswith(b'error: no caf')
    assert b'Traceback' not in done.stderr


def test_many_classes_take_one_line():
    counts = {'train': 60, 'test': 40}
    sets = {
        split: data.ImageSet.of(*arrays, [f'c{i}' for i in range(20)], name='a', split=split)
        for split, arrays in tiny_sets.arrays((2, 2, 1), classes=20, counts=counts).items()
    }
    assert facts(sets)['classes'].endswith('c11 3+2, 8 more with 3+2 (train+test images)')
    sets['train'] = sets['train'].take(np.arange(5))
    assert '8 more with 0 to ' in facts(sets)['classes']


TABLE = 'file,label\n0.png,cat\n1.png,dog\nsub/2.png,cat\n3.png,dog\n'


@pytest.fixture
def table(root):
    """Four images beside a table that is written later."""
    (root / 'sub').mkdir()
    for i, name in enumerate(['0.png', '1.png', 'sub/2.png', '3.png', 'unlisted.png']):
        Image.new('RGB', (3, 3), (i, 0, 0)).save(root / name)

    def write(text, encoding='utf-8'):
        (root / 'labels.csv').write_text(text, encoding=encoding)
        return root

    return write


@pytest.mark.parametrize(
    'text',
    [
        TABLE,
        TABLE.replace(',', ';'),
        TABLE.replace(',', '\t').replace('\n', '\r\n'),
        'Label,who,File\n'
        + ''.join(f'{r.split(",")[1]},me,"{r.split(",")[0]}"\n' for r in TABLE.split()[1:]),
    ],
)
def test_labels_from_a_table(text, table):
    images = loaded(table(text, 'utf-8-sig'), ['train'])['train']
    assert images.class_names == ('cat', 'dog')
    assert images.labels.tolist() == [0, 1, 0, 1]
    assert images.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert 'labels.csv (1 images next to it are not in it)' in images.origin


def test_a_table_with_splits_and_numbers(table):
    rows = TABLE.replace('cat', '10').replace('dog', '9').splitlines()
    splits = ['split', 'train', 'Train', 'test', 'val']
    folder = table('\n'.join(f'{row},{split}' for row, split in zip(rows, splits, strict=True)))
    sets = loaded(folder, ['train', 'validation', 'test'])
    assert {split: images.labels.tolist() for split, images in sets.items()} == {
        'train': [1, 0], 'validation': [0], 'test': [1],
    }  # fmt: skip
    assert sets['train'].class_names == ('9', '10')


def test_a_table_that_changed_is_read_again(table):
    loaded(table(TABLE), ['train'])
    folder = table(TABLE.replace('3.png,dog', '3.png,cat'))
    assert loaded(folder, ['train'])['train'].labels.tolist() == [0, 1, 0]  # one of three cats is for testing


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'expected the columns file and label in its first line'),
        ('name,class\n0.png,cat\n', "got 'name,class'"),
        ('file,label\n', 'expected a line for each image'),
        (TABLE + 'gone.png,cat\n', 'line 6: there is no file .*gone.png'),
        (TABLE + '\n\n0.png,cat\n', '0.png is in line 2 already'),
        (TABLE + '0.png,\n', 'line 6: expected a file, a label'),
        ('file,label,split\n0.png,cat,somewhere\n', "line 2: .*'somewhere'"),
        (
            'file,label,split\n0.png,cat,train\n1.png,cow,test\n3.png,dog,train\n',
            r"1\.png is 'cow', .*\(cat, dog\)",
        ),
        ('file,label\n0.png,cat\n1.png,cat\n', 'at least two classes'),
    ],
)  # fmt: skip
def test_a_wrong_table(text, message, table):
    with pytest.raises(UserError, match=message) as error:
        loaded(table(text))
    assert '\n' not in str(error.value)


def test_a_data_dir_without_a_name(cifar_places, root):
    write(root / 'flowers')
    with pytest.raises(UserError, match=r'give --config.data.name a name of your choice, such as flowers'):
        data.load(config(name='cifar10', data_dir=root / 'flowers', download=True), 'train')
    # where several sets lie, one is missing
    with pytest.raises(UserError, match=r'point to it with --config.data.data_dir=DIR'):
        data.load(config(name='cifar10', data_dir=root), 'train')


def test_digits_with_a_data_dir(root):
    (root / 'empty').mkdir()
    with pytest.warns(RuntimeWarning, match='empty .contains no data set.: training on the embedded digits'):
        assert len(data.load(config(data_dir=root / 'empty'), 'test')) == 359
    write(root / 'flowers')
    with pytest.raises(UserError, match='such as flowers'):
        data.load(config(data_dir=root / 'flowers'), 'test')
    write(root / 'digits')
    with warnings.catch_warnings():
        assert data.load(config(data_dir=root), 'test').class_names == ('cat', 'dog')
