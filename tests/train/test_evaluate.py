"""A checkpoint is scored on images of its own classes and shape, wherever they are, or not at all."""

import csv
import shutil

import numpy as np
import pytest
import runs
import tiny_sets

import train
from flaxnets.errors import UserError
from train import cli, evaluate


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run on a folder of ten classes, which it names relative to where it is started."""
    root = tmp_path_factory.mktemp('run')
    given = tiny_sets.arrays((8, 8, 1))
    tiny_sets.write_folder(given, root / 'images', tiny_sets.CIFAR10)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        config = runs.digits(root, epochs=1, data__name='mine', data__data_dir='images')
        train.run(config, root / 'run')
    return root


def test_from_another_directory(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = evaluate.evaluate(run / 'run', data_dir=str(run / 'images'))
    assert evaluate.evaluate(run / 'run') == there


def test_images_that_moved(run, tmp_path):
    moved = shutil.copytree(run / 'run', tmp_path / 'run')
    (run / 'images').rename(run / 'elsewhere')
    try:
        with pytest.raises(UserError, match=r'no such folder\).*where the images are with --data_dir DIR$'):
            evaluate.evaluate(moved)
    finally:
        (run / 'elsewhere').rename(run / 'images')


@pytest.mark.parametrize(
    ('shape', 'names', 'message'),
    [
        (
            (8, 8, 1),
            tiny_sets.CIFAR10[:9],
            'the classes of checkpoint 1, .airplane, .* got .airplane',
        ),
        ((8, 8, 1), [*tiny_sets.CIFAR10[:9], 'yacht'], r'got \(.*ship, yacht\) from '),
    ],
)
def test_other_images(shape, names, message, run, tmp_path):
    given = tiny_sets.arrays(shape, classes=len(names))
    tiny_sets.write_folder(given, tmp_path / 'images', names)
    with pytest.raises(UserError, match=message) as error:
        evaluate.evaluate(run / 'run', data_dir=str(tmp_path / 'images'))
    assert '\n' not in str(error.value)


def test_another_shape(tmp_path):
    """Where the config does not bring images to one size, they may have another one."""
    for size in (8, 6):
        tiny_sets.write_folder(tiny_sets.arrays((size, size, 1)), tmp_path / str(size), tiny_sets.CIFAR10)
    config = runs.digits(tmp_path, epochs=1, data__name='mine', data__data_dir=str(tmp_path / '8'))
    config.data.image_size = ()
    train.run(config, tmp_path / 'run')
    with pytest.raises(UserError, match=r'expected the shape of checkpoint 1, \(8, 8, 1\), got \(6, 6, 1\)'):
        evaluate.evaluate(tmp_path / 'run', data_dir=str(tmp_path / '6'))


def test_the_command_prints_the_matrix_and_writes_the_page_and_a_table(run, capsys):
    workdir = run / 'run'
    assert cli.guarded(evaluate.main, ['evaluate', '--workdir', str(workdir), '--split', 'train']) == 0
    printed = capsys.readouterr().out
    result = evaluate.evaluate(workdir, split='train')
    folder = workdir / 'evaluation' / f'train-{result["step"]}'
    assert f'page        {folder / "index.html"}' in printed
    assert (folder / 'index.html').exists()
    for name, row in zip(result['class_names'], result['confusion'], strict=True):
        assert [name, *map(str, row)] in [line.split() for line in printed.splitlines()]
    with (folder / 'predictions.csv').open() as file:
        rows = list(csv.DictReader(file))
    confusion = np.zeros_like(result['confusion'])
    names = list(result['class_names'])
    for row in rows:
        assert sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-4)
        confusion[names.index(row['label']), names.index(row['prediction'])] += 1
    assert confusion.tolist() == result['confusion']
    assert [int(row['index']) for row in rows] == list(range(len(rows)))
