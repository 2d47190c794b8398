"""The tables and findings as Markdown: `docs/reproduction.md` and the README's results."""

import re
from collections.abc import Iterable
from typing import Any

from flaxnets.errors import UserError
from train.reporting.console import duration
from train.reproduction import explanations, findings, framework_page, suites
from train.reproduction.records import Record
from train.reproduction.statements import FINDINGS
from train.reproduction.table import TOLERANCE, Row, rows

DOCUMENTS = {
    'convnn': 'The ConvNN family (document 000)',
    'block_cnn': 'Block CNN (document 001)',
    'expert_cnn': 'Expert-branch CNN (document 002)',
    'vit': 'Vision transformers (document 003, question 1)',
    'profiled': 'Profiled CNN and VGG16 (document 003, question 2)',
    'mnist': 'MNIST (document 004)',
}
MARK = re.compile(r'(<!-- results -->\n).*?(<!-- /results -->)', re.DOTALL)


def markdown(records: list[Record], refused: list[str], checked: str = '') -> str:
    """The whole page; `checked` is the result of a shortened run of everything, in words."""
    found = rows(records)
    published = [row for row in found if not row.experiment.variation_of]
    count = {
        verdict: sum(row.verdict() == verdict for row in published) for verdict in ('reproduced', 'differs')
    }
    trained = sum(bool(row.records) for row in published)
    parts = [
        '# Reproduction of the documents',
        '<!-- Made by `python -m train.reproduce all --collect` from results/; do not edit. -->',
        f'Of {len(published)} published runs, {trained} have been trained to their published length: '
        f'{count["reproduced"]} reproduced, {count["differs"]} differ. Rows without figures of ours have '
        'not been run.',
        'Figures are ours / published. Ours is the mean ± standard deviation over seeds where there are '
        'several. *Reproduced*: the published test accuracy lies within our mean ± (2 standard deviations + '
        f'{TOLERANCE:g} point); with one seed the deviation counts as 0. Accuracies and F1 are percentages; '
        'parameters in brackets include the published layers that no input reaches. Seconds are of '
        'training alone, and of different hardware. What the documents are: [documents.md](documents.md). '
        'The runs of the paper behind document 000: [reproduction_framework.md](reproduction_framework.md).',
        '```sh\npython -m train.reproduce --list\n```',
        '## Findings',
        _findings(records),
    ]
    for suite, title in DOCUMENTS.items():
        own = [row for row in found if row.experiment.suite == suite]
        parts += [f'## {title}', _table(own), *_notes(own)]
    if small := framework_page.small(records):
        runs = (record for record in records if record['experiment'].startswith(framework_page.SMALL))
        parts += [*small, 'Measured:\n\n' + '\n'.join(_sources(runs))]
    if checked:
        parts += ['## All experiments run', checked]
    if refused:
        parts += ['## Refused records', '\n'.join(f'- {line}' for line in refused)]
    return '\n\n'.join(parts) + '\n'


def framework(records: list[Record]) -> str:
    """`docs/reproduction_framework.md`."""
    return framework_page.markdown(records, _table)


def readme(text: str, records: list[Record]) -> str:
    """The README with new results between its marks.

    Raises:
        UserError: it has no marks.
    """
    if not MARK.search(text):
        raise UserError('README.md: expected the lines <!-- results --> and <!-- /results -->, found none')
    found = rows(records)
    lines = [
        '| document | trained | reproduced | final test accuracy in %: ours / published |',
        '|---|---:|---:|---|',
    ]
    for suite, title in DOCUMENTS.items():
        published = [r for r in found if r.experiment.suite == suite and not r.experiment.variation_of]
        trained = [row for row in published if row.records]
        reproduced = sum(row.verdict() == 'reproduced' for row in trained)
        figures = '; '.join(f'{row.experiment.short} {_both(row, "test_accuracy")}' for row in trained)
        lines.append(f'| {title} | {len(trained)} of {len(published)} | {reproduced} | {figures} |')
    lines += [
        '',
        'Every figure, the verdicts and the findings: [docs/reproduction.md](docs/reproduction.md).',
    ]
    if documented := [record for row in found for record in row.records]:
        lines.append(_measured(documented))
    return MARK.sub(lambda m: m[1] + '\n'.join(lines) + '\n' + m[2], text)


def _findings(records: list[Record]) -> str:
    word = {True: 'confirmed', False: 'not confirmed', None: 'not run yet'}
    lines = ['| statement | document | here | figures |', '|---|---|---|---|']
    for result in findings.decide(FINDINGS, records):
        finding = result.finding
        lines.append(
            f'| {finding.statement} | {finding.document} | {word[result.confirmed]} | {result.figures} |'
        )
    return '\n'.join(lines)


def _table(found: list[Row]) -> str:
    heads = ['experiment', 'seeds', 'parameters', 'test accuracy', 'difference', 'verdict', 'best epoch']
    columns = ['train_accuracy', 'train_loss', 'test_loss', 'macro_f1']
    # A column that neither side has figures for would only be wide.
    columns = [key for key in columns if any(key in row.published or row.records for row in found)]
    heads += [key.replace('_', ' ').replace('macro f1', 'macro F1') for key in columns]
    heads += ['s per epoch', 'training']
    lines = ['| ' + ' | '.join(heads) + ' |', '|---|' + '---:|' * (len(heads) - 1)]
    for row in found:
        distance = row.distance()
        cells = [
            row.experiment.short,
            str(len(row.records) or ''),
            _parameters(row),
            _both(row, 'test_accuracy'),
            '' if distance is None else f'{distance:+.2f}',
            row.verdict(),
            _both(row, 'best_test_accuracy'),
            *(_both(row, key, digits=4 if 'loss' in key else 2) for key in columns),
            _both(row, 'seconds_per_epoch', digits=1),
            _training(row),
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _notes(found: list[Row]) -> list[str]:
    """What comes below a suite's table: classes, choices, explanations, where the figures come from."""
    parts = []
    if any('class_accuracy' in row.published and row.records for row in found):
        parts += ['Accuracy per class:', _classes(found)]
    choices = [f'- {r.experiment.short}: {r.experiment.choice}' for r in found if r.experiment.choice]
    if choices:
        parts.append('What the document leaves open, and what was chosen:\n\n' + '\n'.join(choices))
    if why := [f'- {name}: {text}' for name, text in explanations.of(found)]:
        parts.append('Why rows differ:\n\n' + '\n'.join(why))
    sources = _sources(record for row in found for record in row.records)
    return parts + (['Measured:\n\n' + '\n'.join(sources)] if sources else [])


def _classes(found: list[Row]) -> str:
    found = [row for row in found if row.records and 'class_accuracy' in row.published]
    names = found[0].records[0]['scores']['class_names']
    lines = ['| experiment | ' + ' | '.join(names) + ' |', '|---|' + '---:|' * len(names)]
    for row in found:
        pairs = zip(row.class_accuracy() or [], row.published['class_accuracy'], strict=True)
        cells = [f'{100 * ours.mean:.1f} / {100 * theirs:.1f}' for ours, theirs in pairs]
        lines.append(f'| {row.experiment.short} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _sources(records: Iterable[Record]) -> list[str]:
    """The different hardware, versions, commits and data behind some records, each with its dates."""
    dates: dict[str, set[str]] = {}
    for record in records:
        hardware, data = record['hardware'], record['data']
        cores = f'{hardware["cores"]} core' + 's' * (hardware['cores'] != 1)
        where = f'{hardware["devices"]}, {cores} of {hardware["processor"]}'
        note = f' ({record["note"]})' if record['note'] else ''
        remark = f', {data["remark"]}' if data['remark'] else ''
        made_with = f'jax {record["versions"]["jax"]}; commit {record["commit"][:7]}'
        what = f'{where}{note}; {made_with}; {data["name"]}{remark}'
        dates.setdefault(what, set()).add(record['date'])
    return [f'- {what}; {", ".join(sorted(days))}' for what, days in dates.items()]


def _measured(records: Iterable[Record]) -> str:
    """`_sources` in one sentence: the page has which is which."""
    records = list(records)
    hardware = [record['hardware'] for record in records]
    cores = sorted({h['cores'] for h in hardware})
    where = ', '.join(sorted({f'{h["devices"]} ({h["processor"]})' for h in hardware}))
    commits = ', '.join(sorted({record['commit'][:7] for record in records}))
    days = sorted({record['date'] for record in records})
    remarks = sorted({f'{r["data"]["name"]}: {r["data"]["remark"]}' for r in records if r['data']['remark']})
    return '; '.join(
        [
            f'Measured on {where}, {" or ".join(map(str, cores))} core{"s" * (cores != [1])} a run',
            f'commits {commits}',
            days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}',
            *remarks,
        ]
    )


def _both(row: Row, key: str, digits: int = 2) -> str:
    ours, theirs = row.ours(key), row.published.get(key)
    if ours is None and theirs is None:
        return ''
    said = theirs if isinstance(theirs, str) else '' if theirs is None else f'{theirs:.{digits}f}'
    return f'{"" if ours is None else ours.words(digits)} / {said}'.strip()


def _parameters(row: Row) -> str:
    ours, dead = row.ours('parameters'), row.ours('published_parameters')
    theirs: Any = row.published.get('parameters')
    if ours is None or dead is None:
        return '' if theirs is None else f'/ {theirs:,}'
    said = f'{int(ours.mean):,}' + (f' ({int(dead.mean):,})' if dead.mean != ours.mean else '')
    return said + ('' if theirs is None else f' / {theirs:,}')


def _training(row: Row) -> str:
    ours, theirs = row.ours('seconds'), row.published.get('seconds')
    said = ['' if ours is None else duration(ours.mean), '' if theirs is None else duration(theirs)]
    return ' / '.join(said).strip() if any(said) else ''


assert list(DOCUMENTS) == list(suites.DOCUMENTS)
