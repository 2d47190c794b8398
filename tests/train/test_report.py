"""Runs that end with a report, and reports of their checkpoints."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import runs
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

import train
from train import cli, data, report
from train.checkpointing.checkpoints import Checkpoints
from train.experiment import Experiment


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    config = runs.digits(folder, evaluate_train_set=True)
    return folder / 'run', train.run(config, folder / 'run'), config


def test_predictions_are_those_that_are_scored(finished):
    workdir, summary, config = finished
    for parallel in ('single', 'jit', 'pmap', 'fsdp'):
        config.parallel = parallel
        exp = Experiment.create(config, data.load_splits(config.data, ['test']))
        state = Checkpoints(workdir, read_only=True).restore(exp.initial, summary['steps'])
        probabilities = exp.predict(state, 'test')
        assert probabilities.shape == (len(exp.sets['test']), 10)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        correct = probabilities.argmax(1) == exp.sets['test'].labels
        assert 100 * correct.mean() == pytest.approx(summary['test_accuracy'], abs=1e-9)
        alone = exp.trained(state)
        images = exp.sets['test'].gather(np.arange(5)) / 255
        logits = alone(jnp.asarray((images - 0.5) / 0.5, jnp.float32))
        assert (np.asarray(logits).argmax(1) == probabilities[:5].argmax(1)).all()


def test_a_report_is_made_again_from_a_checkpoint(finished):
    workdir, summary, _ = finished
    page = report.rebuild(workdir)
    assert page == workdir / 'report' / 'index.html'
    numbers = json.loads((workdir / 'report' / 'report.json').read_text())
    assert numbers['not_drawn'] == []
    assert numbers['summary']['accuracy'] == summary['test_accuracy']
    assert len(numbers['history']) == summary['epochs']


def test_a_report_of_another_split_and_checkpoint(finished, tmp_path):
    workdir, _, _ = finished
    page = report.rebuild(workdir, checkpoint='best', split='train', folder=tmp_path / 'of_train')
    assert 'train accuracy' in page.read_text()
    # The command breaks between its words only.
    assert '<pre class="full"><span>train.run(config,</span> <span>workdir),</span>' in page.read_text()


def test_the_command(finished, tmp_path, capsys):
    workdir, _, _ = finished
    assert cli.guarded(report.main, ['report', '--workdir', str(tmp_path / 'none')]) == 2
    assert 'expected the folder of a run' in capsys.readouterr().err
    assert cli.guarded(report.main, ['report', '--compare', str(workdir), '--to', str(tmp_path / 'c')]) == 0
    assert str(tmp_path / 'c' / 'index.html') in capsys.readouterr().out


def test_a_run_ends_with_the_line_that_names_its_report(tmp_path, capsys):
    config = runs.digits(tmp_path, epochs=1, log__report=True, log__tensorboard=True)
    train.run(config, tmp_path / 'run')
    page = tmp_path / 'run' / 'report' / 'index.html'
    assert capsys.readouterr().out.splitlines()[-1] == f'report      {page}'
    assert page.exists()
    train.run(config, tmp_path / 'run')  # finished: nothing is computed
    assert capsys.readouterr().out.splitlines()[-1] == f'report      {page}'
    (events,) = (tmp_path / 'run').glob('events.out.tfevents.*')
    accumulator = event_accumulator.EventAccumulator(str(events))
    accumulator.Reload()
    pictures = {png.stem for png in page.parent.glob('*.png')}
    assert set(accumulator.Tags()['images']) == {f'report/{stem}' for stem in pictures}
    image = accumulator.Images('report/confusion')[0]
    with Image.open(page.parent / 'confusion.png') as drawn:
        assert (image.width, image.height) == drawn.size


def test_a_report_that_fails_leaves_the_run_finished(tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise MemoryError('too large')

    monkeypatch.setattr(Experiment, 'predict', broken)
    summary = train.run(runs.digits(tmp_path, epochs=1, log__report=True), tmp_path / 'run')
    assert summary == json.loads((tmp_path / 'run' / 'summary.json').read_text())
    assert capsys.readouterr().out.splitlines()[-1] == 'no report: MemoryError: too large'


def test_a_summary_says_where_it_comes_from(finished):
    _, summary, _ = finished
    assert summary['command'].startswith('train.run(')
    assert re.fullmatch(r'[0-9a-f]{40}(-changed)?|unknown', summary['commit'])
    assert summary['peak_memory_bytes'] > 2**26
