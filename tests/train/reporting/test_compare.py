import dataclasses
import json
import statistics

import pytest
from made import leave

from flaxnets.errors import UserError
from train import report
from train.reporting import compare


def test_runs_that_differ_in_their_seeds_stand_together(tmp_path):
    workdirs = [leave(tmp_path, f'a{seed}', seed=seed) for seed in range(3)]
    workdirs.append(leave(tmp_path, 'b', gain=5, width=8))
    page = compare.write(workdirs, tmp_path / 'out')
    finals = [82.5, 83.5, 84.5]
    html = page.read_text()
    assert f'{statistics.mean(finals):.2f} ± {statistics.stdev(finals):.2f}' in html
    assert 'a0 (3 seeds)' in html
    assert 'seed=0, width=' not in html.replace('model.', '')  # a run shows options that it sets itself
    assert 'width=8' in html
    assert '+5.00' in html
    numbers = json.loads((tmp_path / 'out' / 'compare.json').read_text())
    assert [run['scores']['final'] for run in numbers] == [*finals, 87.5]
    assert (tmp_path / 'out' / 'compare_test_accuracy.png').exists()


def test_two_runs_of_one_seed_are_not_two_seeds(tmp_path):
    runs = [compare.read(leave(tmp_path, name, seed=seed)) for name, seed in (('a', 0), ('b', 0), ('c', 1))]
    groups = compare.by_seed(runs)
    assert {name: [run.name for run in group] for name, group in groups.items()} == {
        'a (2 seeds)': ['a', 'c'],
        'b': ['b'],
    }


def test_of_many_differences_the_defaults_are_left_out(tmp_path):
    run = compare.read(leave(tmp_path, 'a'))
    few = {'epochs': 9, 'optimizer.name': 'sgd'}
    many = few | {'data.batch_size': 7, 'data.limit': 5, 'loss.softmax_twice': True, 'optimizer.b2': 0.5}
    for changes, shown in ((few, 'epochs=10, optimizer.name=adam'), (many, '')):
        other = dataclasses.replace(run, options=run.options | changes)
        listed = ', '.join(f'{name}={value}' for name, value in sorted(changes.items()))
        assert compare.differences([run, other]) == [shown, listed]


def test_an_unfinished_run_can_be_compared(tmp_path):
    workdirs = [leave(tmp_path, 'a'), leave(tmp_path, 'b', epochs=2, finished=False, width=8)]
    with (workdirs[1] / 'metrics.jsonl').open('a') as file:
        file.write('{"epoch": 3, "st')  # being written
    runs = [compare.read(workdir) for workdir in workdirs]
    assert [len(run.history) for run in runs] == [4, 2]
    compare.write(workdirs, tmp_path / 'out')


def test_what_cannot_be_compared_is_said(tmp_path):
    with pytest.raises(UserError, match='expected the folders of runs'):
        compare.write([leave(tmp_path, 'a'), tmp_path / 'none'], tmp_path / 'out')
    empty = leave(tmp_path, 'b')
    (empty / 'metrics.jsonl').write_text('')
    with pytest.raises(UserError, match=r'has no finished epoch in its metrics\.jsonl'):
        compare.write([empty], tmp_path / 'out')


def test_patterns_name_runs(tmp_path):
    first, second = leave(tmp_path, 'a1'), leave(tmp_path, 'a2')
    (tmp_path / 'a3.txt').write_text('no run')
    assert report.expand([str(tmp_path / 'a*')]) == [first, second]
    with pytest.raises(UserError, match='matches no folder'):
        report.expand([str(tmp_path / 'z*')])
