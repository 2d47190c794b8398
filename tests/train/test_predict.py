"""A trained model in use: `train.load`, and `python -m train.predict` on files."""

import csv
import os

import numpy as np
import pytest
import runs
from PIL import Image

import train
from flaxnets.errors import UserError
from train import cli, data, predict


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """(workdir, config, summary) of a model with random candidates."""
    path = tmp_path_factory.mktemp('run')
    config = runs.digits(path, model__name='convnn_random', model__num_candidates=9, model__num_neighbors=3)
    return path / 'run', config, train.run(config, path / 'run')


@pytest.fixture
def test_images(run):
    return data.load(run[1].data, 'test')


def test_a_loaded_model_scores_as_the_run_did(run, test_images):
    workdir, _, summary = run
    classifier = train.load(workdir, checkpoint='last')
    assert classifier.class_names == test_images.class_names
    probabilities = classifier(test_images.images)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-12)
    accuracy = 100 * np.mean(probabilities.argmax(1) == test_images.labels)
    assert accuracy == pytest.approx(summary['test_accuracy'], abs=1e-9)


def test_images_come_as_they_are(run, test_images, tmp_path):
    classifier = train.load(run[0])
    pixels = test_images.images[0]
    Image.fromarray(pixels[..., 0]).resize((40, 40), Image.Resampling.NEAREST).save(tmp_path / 'large.png')
    Image.fromarray(pixels[..., 0]).save(tmp_path / 'same.png')
    same = classifier([tmp_path / 'same.png', str(tmp_path / 'same.png'), pixels, pixels[..., 0]])
    assert (same == same[0]).all()
    with Image.open(tmp_path / 'large.png') as file:
        picture = file.convert('RGB')
    assert classifier([picture])[0] == pytest.approx(classifier([tmp_path / 'large.png'])[0], abs=1e-6)
    with pytest.raises(UserError, match=r'expected bytes \[height, width, 1 or 3\].*got float64 \[8, 8, 1\]'):
        classifier([pixels / 255])


def command(workdir, *words):
    return cli.guarded(predict.main, ['predict', '--workdir', str(workdir), *map(str, words)])


def test_files_and_folders(run, test_images, tmp_path, capsys):
    folder = tmp_path / 'folder'
    (folder / 'inner').mkdir(parents=True)
    (folder / 'notes.txt').write_text('no image')
    for i in range(3):
        Image.fromarray(test_images.images[i][..., 0]).save(folder / 'inner' / f'{i}.png')
    table, picture = tmp_path / 'table.csv', tmp_path / 'answers.png'
    assert command(run[0], folder, folder / 'inner' / '0.png', '--csv', table, '--picture', picture) == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    expected = train.load(run[0])(test_images.images[:3])
    for row, one in zip(rows, expected, strict=True):
        assert row['prediction'] == test_images.class_names[one.argmax()]
        assert [float(row[name]) for name in test_images.class_names] == pytest.approx(one, abs=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert f'{rows[0]["file"]}  {rows[0]["prediction"]} ({100 * expected[0].max():.1f}%)' in lines[0]
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 200


def test_names_that_are_no_unicode(run, test_images, tmp_path, capsys):
    file = tmp_path / os.fsdecode(b'caf\xe9.png')
    Image.fromarray(test_images.images[0][..., 0]).save(file)
    table = tmp_path / 'table.csv'
    assert command(run[0], file, '--csv', table, '--picture', tmp_path / 'answers.png') == 0
    assert capsys.readouterr().out.startswith(rf'{tmp_path}/caf\xe9.png  ')
    assert table.read_text().splitlines()[1].startswith(rf'{tmp_path}/caf\xe9.png,')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['nowhere.png'], 'nowhere.png: expected an image or a folder with images, found none'),
        (['bad.png'], 'bad.png: not a readable image (of no known format); replace or delete it'),
        (['bad.png', '--csv', 'x.txt'], '--csv: expected a file .csv in a folder that exists, got x.txt'),
        (['bad.png', '--checkpoint', '7'], '--checkpoint: expected best, last or one of'),
    ],
)
def test_mistakes(run, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bad.png').write_text('no image')
    assert command(run[0], *words) == 2
    assert message in capsys.readouterr().err
