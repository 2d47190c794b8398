"""The framework beside its published formulation: every figure is there, both sides have the same sizes."""

import sys

import pytest
from flax import nnx

import flaxnets
from train import cli
from train.benchmarks import framework

WIDTHS = (4, 'P', 6)


@pytest.fixture
def small(monkeypatch):
    made = framework.Case(
        'small', lambda: framework.Layers(WIDTHS, 8), lambda: framework.layers_in_torch(WIDTHS), 8, batch=2
    )
    monkeypatch.setattr(framework, 'CASES', {'small': made})
    return made


@pytest.mark.parametrize('case', framework.CASES.values(), ids=framework.CASES)
def test_the_twin_is_as_large(case):
    size = sum(values.numel() for values in case.theirs().parameters())
    assert size == flaxnets.count_parameters(nnx.eval_shape(case.ours))


def test_it_measures_both_and_writes_the_page(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        framework, 'alone', lambda side, name: {'ours': 1_000_000, 'PyTorch': 4_000_000}[side]
    )
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- benchmark framework -->\nold\n<!-- /benchmark framework -->\nafter\n')
    argv = ['framework', '--rounds', '1', '--case', 'small', '--into', str(page)]
    assert cli.guarded(framework.main, argv) == 0
    row = next(line for line in page.read_text().splitlines() if line.startswith('| small'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[1] == f'{flaxnets.count_parameters(small.ours()):,}'
    assert all(float(cell) > 0 for cell in cells[2:4])
    assert cells[5] == '1'
    assert cells[7:] == ['4', '0.25']
    assert 'old' not in page.read_text()
    assert row in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux tells the peak')
def test_memory_is_that_of_a_step(small, capsys):
    for side in framework.SIDES:
        assert cli.guarded(framework.main, ['framework', '--side', side, '--case', 'small']) == 0
        assert 0 <= int(capsys.readouterr().out) < 2**30


def test_rounds_are_counted_from_one(capsys):
    assert cli.guarded(framework.main, ['framework', '--rounds', '0']) == 2
    assert '--rounds: expected at least 1, got 0' in capsys.readouterr().err
