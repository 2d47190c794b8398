"""Classifies your own images: `python -m train.predict --workdir DIR image.png folder/ ...`."""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from flaxnets.errors import UserError
from train import arguments, cli
from train.arguments import Parser
from train.progress import shown

EXAMPLES = """
  python -m train.predict --workdir runs/mine cat.png holidays/
  python -m train.predict --workdir runs/mine holidays/ --top 1 --picture answers.png --csv answers.csv
  python -m train.predict --workdir mine.safetensors cat.png
"""
# Images on a picture; more would be too small to see.
SHEET = 64


def find(paths: Sequence[str]) -> list[pathlib.Path]:
    """The image files that are named, or lie in the folders named, at any depth."""
    from train.data.sources.image_folder import is_image, visible_files

    found: dict[pathlib.Path, None] = {}
    for given in paths:
        path = pathlib.Path(given).expanduser()
        files = [file for file in visible_files(path) if is_image(file)] if path.is_dir() else [path]
        if not files or not path.exists():
            raise UserError(f'{path}: expected an image or a folder with images, found none')
        found |= dict.fromkeys(files)
    return list(found)


def draw(
    file: pathlib.Path,
    titles: Sequence[str],
    pixels: Sequence[np.ndarray],
    probabilities: np.ndarray,
    names: Sequence[str],
) -> None:
    """A sheet of the first `SHEET` images as the model gets them, with the class predicted."""
    from train.reporting.examples import percent
    from train.reporting.figures import png
    from train.reporting.sheets import Tile, as_figure

    tiles = [
        Tile(image, [_short(title), f'{names[row.argmax()]} {percent(row.max())}'])
        for title, image, row in zip(titles[:SHEET], pixels, probabilities, strict=False)
    ]
    png(as_figure(tiles), file)


def _short(title: str) -> str:
    return title if len(title) <= 20 else f'{title[:9]}…{title[-10:]}'


def main(argv: Sequence[str]) -> None:
    """Prints the most probable classes of each image; writes a picture and a table where asked."""
    parser = Parser('train.predict', 'Classify images of your own with a trained model.', EXAMPLES)
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    parser.add_argument('--workdir', required=True, help='the folder of a run, or an exported .safetensors')
    arguments.add_checkpoint(parser)
    parser.add_argument('--top', type=int, default=3, help='how many classes to print (default: 3)')
    parser.add_argument('--picture', metavar='FILE.png', help='draw the images with their predictions')
    parser.add_argument('--csv', metavar='FILE.csv', help='write all probabilities')
    arguments.add_model(parser)
    args = parser.parse_args(argv[1:])
    paths = find(args.images)
    for option, suffix in (('picture', '.png'), ('csv', '.csv')):
        given = getattr(args, option)
        if given and (not given.endswith(suffix) or not pathlib.Path(given).absolute().parent.is_dir()):
            raise UserError(f'--{option}: expected a file {suffix} in a folder that exists, got {given}')

    from train.classifier import load
    from train.data.sources.records import printable
    from train.reporting.examples import percent

    with shown() as progress:
        progress(f'reading {args.workdir}')
        classifier = load(args.workdir, checkpoint=args.checkpoint, model=args.model)
        names = classifier.class_names
        pixels = [classifier.prepare(path) for path in progress.track(iter(paths), 'reading', len(paths))]
        progress(f'classifying {len(paths):,} images')
        probabilities = classifier(pixels)
    files = [printable(str(path)) for path in paths]
    for file, row in zip(files, probabilities, strict=True):
        best = np.argsort(-row, kind='stable')[: max(args.top, 1)]
        print(f'{file}  ' + '  '.join(f'{names[i]} {percent(row[i])}' for i in best))
    if args.csv:
        from train.reporting import predictions

        predictions.write(pathlib.Path(args.csv), {'file': files}, probabilities, names)
        print(f'table       {args.csv}')
    if args.picture:
        titles = [printable(path.name) for path in paths]
        draw(pathlib.Path(args.picture), titles, pixels, probabilities, names)
        print(f'picture     {args.picture}')


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
