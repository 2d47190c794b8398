"""Every picture of a report, from a run's results; `ALL` lists them in the page's order.

A function yields its pictures for this model, none if the model has no such part.
"""

from collections.abc import Callable, Iterator

import numpy as np

from train.reporting import (
    attention,
    choices,
    classes,
    curves,
    examples,
    experts,
    kernels,
    neighbours,
    sheets,
)
from train.reporting.page import Picture
from train.reporting.published import published
from train.reporting.results import Results
from train.reporting.sheets import Tile

# Images whose gates are averaged.
GATED = 512
# Classes whose wrong and correct predictions are shown.
CLASSES = 20

Drawing = Callable[[Results], Iterator[Picture]]


def learning_curves(run: Results) -> Iterator[Picture]:
    """Loss and accuracy by epoch; none of converted weights, which have no epochs yet."""
    if not run.history:
        return
    theirs = published(run.config)
    for score, text in (('loss', 'Cross entropy'), ('accuracy', 'Share of images classified correctly')):
        drawn = curves.learning_curve(run.history, score, published=theirs)
        known = any(curves.points_of(theirs or {}, f'{key}_{score}', run.history) for key in curves.SETS)
        beside = ' Dotted: the published run, as far as it is known.' if known else ''
        caption = f'{text} after each epoch; train: the mean over the epoch’s batches.{beside}'
        yield Picture(score, score.capitalize(), caption, drawn)


def learning_rate(run: Results) -> Iterator[Picture]:
    """The learning rate by epoch."""
    if not run.history:
        return
    drawn = curves.by_epoch(run.history, 'learning_rate', 'learning rate', colour='green')
    yield Picture('learning_rate', 'Learning rate', f'Schedule: {run.config.schedule.name}.', drawn)


def time(run: Results) -> Iterator[Picture]:
    """Seconds and images per second by epoch."""
    if not run.history:
        return
    drawn = curves.by_epoch(run.history, 'seconds', 'training time (s)', 's')
    yield Picture('seconds', 'Time per epoch', 'Training only; the first epoch compiles.', drawn)
    drawn = curves.by_epoch(run.history, 'images_per_second', 'images/s', 'images/s')
    yield Picture('images_per_second', 'Speed', 'Training images per second.', drawn)


def class_scores(run: Results) -> Iterator[Picture]:
    """Accuracy per class and the confusion matrix."""
    drawn = classes.accuracy(run.summary['class_accuracy'], run.class_names)
    caption = 'Share of each class’s images that are recognised.'
    yield Picture('class_accuracy', 'Accuracy per class', caption, drawn)
    drawn = classes.confusion_matrix(run.summary['confusion'], run.class_names)
    caption = 'Number of images, and their share of the true class. Blue: correct; orange: mistaken.'
    yield Picture('confusion', 'Confusion matrix', caption, drawn, wide=True)


def mistakes(run: Results) -> Iterator[Picture]:
    """The most confident mistakes."""
    indices = examples.confident_mistakes(run.images.labels, run.probabilities)
    if indices:
        tiles = [answered(run, index) for index in indices]
        caption = (
            'The wrong predictions with the highest probabilities; below each one the true class with its '
            'probability.'
        )
        yield sheet('mistakes', 'Most confident mistakes', caption, tiles)


def predicted_classes(run: Results) -> Iterator[Picture]:
    """Two misclassified and two correct images for each predicted class."""
    found = examples.per_predicted_class(run.images.labels, run.probabilities)
    rows = [
        [tile for indices in pair for tile in [*(answered(run, index) for index in indices), None, None][:2]]
        for pair in found.values()
        if any(pair)
    ][:CLASSES]
    html = f'<div class="class-rows">{"".join(map(sheets.as_html, rows))}</div>'
    drawn = sheets.as_figure([tile for row in rows for tile in row], 4)
    caption = (
        'For each predicted class, the first two images misclassified as it (dashed orange) and the first '
        'two that are of it (blue), with its probability; below a mistake, the true class with its own.'
    )
    if never := [name for name, pair in zip(run.class_names, found.values(), strict=False) if not any(pair)]:
        caption += f' Never predicted: {", ".join(never)}.'
    yield Picture(
        'predicted_classes',
        'Two wrong and two correct predictions per class',
        caption,
        drawn,
        html,
        wide=True,
    )


def samples(run: Results) -> Iterator[Picture]:
    """Labelled images."""
    labels = run.images.labels
    tiles = [
        Tile(run.pixels([index])[0], (run.class_names[labels[index]],), title=f'image {index}')
        for index in examples.samples(labels)
    ]
    caption = f'Images of the {run.images.split} split, by class.'
    yield sheet('samples', 'Sample images', caption, tiles)


def first_kernels(run: Results) -> Iterator[Picture]:
    """The first convolution's kernels."""
    channels = run.images.image_shape[-1]
    after = kernels.first_layer(run.model, channels)
    if after is not None:
        before = None if run.initial is None else kernels.first_layer(run.initial, channels)
        colours = (
            'grey is a weight of 0' if channels == 3 else 'white is a weight of 0, orange below, purple above'
        )
        caption = f'Each kernel scaled to its own largest weight; {colours}.'
        yield Picture('kernels', 'First-layer kernels', caption, kernels.draw(before, after))


def neighbour_choices(run: Results) -> Iterator[Picture]:
    """For each layer that has neighbours, those of a few tokens."""
    images, pixels = run.inputs(run.shown), run.pixels(run.shown)
    after = choices.chosen(run.model, images)
    before = [None] * len(after) if run.initial is None else choices.chosen(run.initial, images)
    for number, (first, last) in enumerate(zip(before, after, strict=True), 1):
        near, columns = f'{100 * last.nearby():.1f}% after.', {'after training': last}
        if first is None:
            near += ' The values that the run started from are not known any more.'
        else:
            near = f'{100 * first.nearby():.1f}% before training, {near}'
            columns = {'before training': first} | columns
            if np.array_equal(first.numbers, last.numbers):
                near += ' What decides this choice is not trained.'
        caption = (
            f'The {last.numbers.shape[2]} tokens that layer {number} gathers for each of three tokens '
            f'(filled). Share of all neighbours that lie within the 3 × 3 around their token: {near}'
        )
        if last.border:
            caption += ' Squares beside the image are tokens of its border of zeros.'
        names = [run.class_names[label] for label in run.images.labels[run.shown]]
        drawn = neighbours.draw(pixels, columns, names)
        yield Picture(f'neighbours_{number}', f'Neighbours, layer {number}', caption, drawn)


def attention_maps(run: Results) -> Iterator[Picture]:
    """Attention weights over a few images."""
    layers = attention.weights(run.model, run.inputs(run.shown)) if run.shown else []
    for number, (index, pixels) in enumerate(zip(run.shown, run.pixels(run.shown), strict=True)):
        if layers:
            found, rows, columns = attention.maps(layers, number, pixels.shape[:2])
            classified = columns[0].startswith('head')
            of, each = ('the class token', 'block') if classified else ('the marked tokens', 'layer')
            true = run.class_names[run.images.labels[index]]
            caption = f'Where the weights of {of} lie, {each} by {each}, in an image of class {true}.'
            drawn = attention.draw(pixels, found, rows, columns, name=true)
            yield Picture(f'attention_{number + 1}', f'Attention, image {index}', caption, drawn)


def expert_weights(run: Results) -> Iterator[Picture]:
    """The experts' mean weights by class."""
    indices = np.arange(min(GATED, len(run.images)))
    found = experts.weights(run.model, run.inputs(indices))
    if found is not None:
        means = experts.by_class(found, run.images.labels[indices], len(run.class_names))
        caption = (
            f'Mean weight that each block’s gate gives its experts, by true class ({len(indices)} images); '
            'the colours span the smallest to the largest.'
        )
        yield Picture('experts', 'Experts by class', caption, experts.draw(means, run.class_names), wide=True)


def answered(run: Results, index: int) -> Tile:
    """A scored image with its labels and probabilities."""
    label, probabilities = int(run.images.labels[index]), run.probabilities[index]
    return examples.answered(index, run.pixels([index])[0], label, probabilities, run.class_names)


def sheet(name: str, title: str, caption: str, tiles: list[Tile]) -> Picture:
    """A sheet of tiles as a picture."""
    return Picture(name, title, caption, sheets.as_figure(tiles, 6), sheets.as_html(tiles), wide=True)


SECTIONS: dict[str, tuple[Drawing, ...]] = {
    'Training': (learning_curves, learning_rate, time),
    'Classes': (class_scores,),
    'Mistakes': (mistakes, predicted_classes),
    'Inside the model': (neighbour_choices, attention_maps, expert_weights, first_kernels),
    'Data': (samples,),
}
