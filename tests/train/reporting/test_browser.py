import re

import browser
import pytest
from made import leave, make

from train.reporting import compare, report


def check(page, tmp_path):
    seen = browser.look(page, tmp_path)
    assert set(seen) == {'phone', 'desktop'}
    for width, found in seen.items():
        assert found['errors'] == [], width
        assert found['overflow'] == 0, (width, found['wide'])
        assert found['wide'] == [], width
        assert all(found['images']), width
        assert all(chart > 150 for chart in found['charts']), width
        assert found['charts'], width
        for table in found['tables']:
            for column in table:
                check_sorted(column)
    return seen


def check_sorted(column):
    for order, values in column['clicks']:
        assert sorted(values) == sorted(column['before'])
        known = [value for value in values if value != '–']
        keys = (
            [float(re.sub('[,+%]', '', value.split(' ±')[0])) for value in known] if numbers(known) else None
        )
        if keys is not None:
            assert keys == sorted(keys, reverse=order == 'descending'), (column['name'], values)
    assert {order for order, _ in column['clicks']} == {'ascending', 'descending'}


def numbers(values):
    return all(re.fullmatch(r'[+-]?[\d,]+(\.\d+)?( ± .*)?', value) for value in values)


@pytest.mark.parametrize('name', ['branching_attn', 'vit', 'expert_cnn'])
def test_a_report_in_a_browser(tmp_path, name):
    model_options = {
        'branching_attn': {'width': 4, 'num_layers': 2, 'num_candidates': 9, 'num_neighbors': 4},
        'vit': {'blocks': 2, 'heads': 2, 'width': 4},
        'expert_cnn': {'blocks': 5, 'width': 8},
    }[name]
    run = make(tmp_path, name, **model_options)
    seen = check(report.write(run, tmp_path / 'report'), tmp_path)
    assert len(seen['phone']['images']) >= 18


def test_a_comparison_in_a_browser(tmp_path):
    runs = [leave(tmp_path, f'run-with-a-long-name-{seed}', seed=seed) for seed in range(3)]
    seen = check(compare.write(runs, tmp_path / 'comparison'), tmp_path)
    assert len(seen['desktop']['tables']) == 2
