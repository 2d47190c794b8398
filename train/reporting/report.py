"""The report of a run: `index.html`, its pictures as PNG and its numbers as report.json, in one folder.

Errors here do not affect a finished run: a picture that cannot be drawn is named on the page.
"""

import html
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flaxnets
from flaxnets.interop.atomic import write_json, write_text
from train import config as options
from train.progress import Track, duration, untracked
from train.reporting import classes, page, pictures
from train.reporting.console import spread
from train.reporting.figures import png
from train.reporting.page import Picture, Section, number, word
from train.reporting.published import published
from train.reporting.results import Results

# Options that are shown even if they are the defaults.
ALWAYS = ('seed', 'epochs', 'data.batch_size', 'optimizer.name', 'optimizer.learning_rate', 'schedule.name')


def write(run: Results, folder: pathlib.Path, track: Track = untracked) -> pathlib.Path:
    """Writes the report into `folder` and returns the page's path; `track` shows how far it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob('*.png'):
        old.unlink()
    notes: list[str] = []
    drawn = {title: Section(title) for title in pictures.SECTIONS}
    todo = [(title, drawing) for title, drawings in pictures.SECTIONS.items() for drawing in drawings]
    for title, drawing in track(iter(todo), 'drawing the report', len(todo)):
        drawn[title].parts += attempt(drawing, run, folder, notes)
    drawn['Classes'].parts.append(class_table(run))
    if reached := milestones(run.summary):
        drawn['Training'].parts.append(page.facts(reached, 'Milestones'))
    sections = [result(run), *(section for section in drawn.values() if section.parts), reproduction(run)]
    write_json(folder / 'report.json', numbers(run, notes))
    title = f'{run.config.model.name} on {run.images.name}'
    subtitle = f'{run.workdir}, step {run.step:,}, {len(run.images):,} {run.images.split} images'
    write_text(folder / 'index.html', page.page(title, subtitle, sections, notes=notes))
    return folder / 'index.html'


def attempt(
    drawing: Callable[[Results], Iterator[Picture]], run: Results, folder: pathlib.Path, notes: list[str]
) -> Iterator[str]:
    """The HTML of a drawing's pictures, whose PNGs are written; a failure becomes a note."""
    try:
        for picture in drawing(run):
            shown = picture.as_html()
            png(picture.figure, folder / f'{picture.name}.png')
            yield shown
    except Exception as error:  # of any kind: the run has been trained, and the other pictures are shown
        what = (drawing.__doc__ or drawing.__name__).strip().rstrip('.')
        notes.append(f'Not drawn: {what} ({type(error).__name__}: {" ".join(str(error).split())}).')


def result(run: Results) -> Section:
    """The scores in large figures, the facts of the run and its recipe."""
    summary = run.summary
    split = run.images.split
    figures = {f'{split} accuracy': f'{spread(summary, "accuracy", 2)}%'}
    if 'top5_accuracy' in summary:
        figures['top-5 accuracy'] = f'{summary["top5_accuracy"]:.2f}%'
    if 'best_test_accuracy' in summary:
        figures[f'best, epoch {summary["best_epoch"]}'] = f'{summary["best_test_accuracy"]:.2f}%'
    figures['macro F1'] = f'{spread(summary, "macro_f1", 2)}%'
    figures[f'{split} loss'] = spread(summary, 'loss', 4)
    figures['parameters'] = f'{flaxnets.count_parameters(run.model):,}'
    if run.history:
        figures['training time'] = duration(sum(row['seconds'] for row in run.history))
    parts = [page.headline(figures), page.facts(facts(run), 'Run'), page.facts(recipe(run), 'Recipe')]
    return Section('Result', [*parts, *replicas(run)])


def replicas(run: Results) -> list[str]:
    """A table with the scores of each replica; nothing for a single run."""
    rows = []
    for i, one in enumerate(run.summary.get('replicas', ())):
        alone = options.replica(run.config, i)
        rate, loss = f'{alone.optimizer.learning_rate:g}', one.get('loss', one.get('test_loss'))
        accuracy = one.get('accuracy', one.get('test_accuracy'))
        rows.append(
            [
                number(alone.seed, 'd'),
                word(rate),
                number(accuracy),
                number(one['macro_f1']),
                number(loss, '.4f'),
            ]
        )
    titles = ['seed', 'learning rate', 'accuracy %', 'macro F1 %', 'loss']
    return [page.table(titles, rows, title='Replicas; pictures are of the first')] if rows else []


def facts(run: Results) -> dict[str, Any]:
    """Model, data, epochs and speed."""
    summary = run.summary
    height, width, channels = run.images.image_shape
    found = {
        'model': run.config.model.name,
        'data': f'{run.images.name}, {height} × {width} × {channels}, {len(run.class_names)} classes',
    }
    theirs = summary.get('published_parameters')
    if theirs and theirs != flaxnets.count_parameters(run.model):
        found['parameters, published'] = f'{theirs:,} (with those that no input reaches)'
    if (theirs := published(run.config)) and 'test_accuracy' in theirs:
        words = str(theirs['test_accuracy'])
        found['published test accuracy'] = f'{words}%' if words[-1].isdigit() else words
    if run.history:
        last = run.history[-1]
        found['epochs'] = f'{last["epoch"]} of {run.config.epochs}'
        found['train loss, accuracy'] = f'{last["train_loss"]:.4f}, {last["train_accuracy"]:.2f}%'
    for key, name, form in (
        ('seconds_per_epoch', 'time per epoch', '{:.2f} s'),
        ('images_per_second', 'speed', '{:,.0f} images/s'),
    ):
        if key in summary:
            found[name] = form.format(summary[key])
    if 'peak_memory_bytes' in summary:
        found['peak memory'] = f'{summary["peak_memory_bytes"] / 2**20:,.0f} MiB'
    return found


def milestones(summary: dict[str, Any]) -> dict[str, str]:
    """The epochs that first reached an accuracy, and from which the loss only rose, as far as known."""
    found = {
        f'first epoch with {goal}%': str(epoch)
        for goal, epoch in summary.get('epochs_to_accuracy', {}).items()
        if epoch
    }
    if summary.get('overfitting_from_epoch'):
        found['test loss only rises from epoch'] = str(summary['overfitting_from_epoch'])
    if summary.get('stopped_by_patience'):
        found['stopped early'] = f'no better epoch for {summary["stopped_by_patience"]}'
    return found


def recipe(run: Results) -> dict[str, Any]:
    """The options that differ from the defaults and decide what is computed, and those always looked for."""
    usual, ours = options.flatten(options.defaults()), options.flatten(run.config)
    changed = [key for key in ours if ours[key] != usual.get(key) and not key.startswith(options.MUTABLE)]
    return {key: ours[key] for key in sorted({*ALWAYS, *changed})}


def class_table(run: Results) -> str:
    """Images, recall, precision and F1 of every class."""
    rows = [
        [
            word(row['class']),
            number(row['images'], ',d'),
            number(row['predicted'], ',d'),
            *(number(None if row[key] is None else 100 * row[key]) for key in ('recall', 'precision', 'f1')),
        ]
        for row in classes.table(run.summary['confusion'], run.class_names)
    ]
    columns = ['class', 'images', 'predicted', 'accuracy %', 'precision %', 'F1 %']
    return page.table(columns, rows, title='Scores per class')


def reproduction(run: Results) -> Section:
    """How to make this run again."""
    summary = run.summary
    found = {
        'command': summary.get('command', 'not recorded'),
        'commit': summary.get('commit', 'not recorded'),
    }
    found |= {'device': summary.get('devices', 'not recorded')}
    found |= summary.get('versions', {})
    resolved = '\n'.join(f'{key} = {value!r}' for key, value in sorted(options.flatten(run.config).items()))
    # A line breaks between arguments, not after the hyphens of --config.
    words = ' '.join(f'<span>{html.escape(word)}</span>' for word in str(found.pop('command')).split(' '))
    parts = [
        f'<pre class="full">{words}</pre>',
        page.facts(found),
        f'<details><summary>All options of the run</summary><pre>{html.escape(resolved)}</pre></details>',
    ]
    return Section('Reproduce', parts)


def numbers(run: Results, notes: list[str]) -> dict[str, Any]:
    """What the page shows, as numbers."""
    return {
        'config': run.config.to_dict(),
        'summary': run.summary,
        'history': run.history,
        'classes': classes.table(run.summary['confusion'], run.class_names),
        'not_drawn': notes,
    }
