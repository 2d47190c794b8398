"""Trains the documents' experiments and compares: `python -m train.reproduce SUITE [--help]`."""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli

EXAMPLES = """examples:
  python -m train.reproduce vit --list
  python -m train.reproduce convnn --only 'branching*' --seeds 3 --data ~/data
  python -m train.reproduce all --epochs 1 --limit 1500 --test-limit 1000
  python -m train.reproduce convnn --shard 1/4     on each of four GPUs, 2/4, 3/4, 4/4 on the others; then
  python -m train.reproduce all --collect

Run it again to continue. Run it in the checkout, where configs/ and results/ lie.
"""


def main(argv: Sequence[str]) -> None:
    """Parses the flags; lists, trains or collects."""
    args = parser().parse_args(argv[1:])
    for name in ('seeds', 'epochs', 'limit', 'test_limit'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name.replace("_", "-")}: expected at least 1, got {getattr(args, name)}')
    import jax

    jax.config.update(
        'jax_platforms', 'cpu'
    )  # the accelerators are for the runs, which are processes of their own
    from train.reproduction import suites

    chosen = suites.select(args.suite, args.only, variations=args.variations, weights=bool(args.vgg16))
    if args.list:
        for experiment in chosen:
            show(experiment)
    elif args.collect:
        collect(args.records)
    else:
        run(args, chosen)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        'python -m train.reproduce',
        description="Train the documents' experiments and compare with what was published.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add('suite', nargs='?', default='all', help='convnn, block_cnn, expert_cnn, vit, profiled, mnist or all')
    add('--list', action='store_true', help='print the experiments and what was published, and do nothing')
    add(
        '--collect',
        action='store_true',
        help='make the tables and pages from the records, and do nothing else',
    )
    add('--workdir', default='runs/reproduce', help='where the runs go (default: runs/reproduce)')
    add('--records', default='results', help='where the records are (default: results)')
    add('--seeds', type=int, default=1, help='how many seeds of each experiment (default: 1)')
    add('--only', metavar='PATTERN', default='', help="experiments of the suite, such as 'branching*'")
    add('--variations', action='store_true', help='also the other choices where a document leaves one open')
    add('--data', metavar='DIR', default='', help='where CIFAR-10 and MNIST are')
    add('--vgg16', metavar='FILE', default='', help="torchvision's ImageNet weights for VGG16")
    add('--shard', metavar='I/N', default='1/1', help='train part I of N parts')
    add('--note', default='', help='about the machine, for the records, such as "shared with others"')
    add('--epochs', type=int, help='other than published: a check that all runs, without records or verdicts')
    add('--limit', type=int, help='train on so many images: likewise')
    add('--test-limit', type=int, help='test on so many images: likewise')
    return made


def show(experiment: Any) -> None:
    """A line of what is run, and one of what was published."""
    settings = ''.join(f' --config.{key}={value}' for key, value in experiment.overrides.items())
    print(f'{experiment.name:<36} --config {experiment.config}{settings}')
    figures = {k: v for k, v in experiment.published.items() if k not in ('curve', 'class_accuracy')}
    print(
        '  published: '
        + ', '.join(f'{k} {v:g}' if isinstance(v, float) else f'{k} {v}' for k, v in figures.items())
    )
    if experiment.choice:
        print(f'  chosen: {experiment.choice}')


def run(args: argparse.Namespace, chosen: list[Any]) -> None:
    """Trains what is missing and prints the suite's table."""
    from train.reproduction import records, runner

    cut = {'epochs': args.epochs, 'data.limit': args.limit, 'data.test_limit': args.test_limit}
    changes: dict[str, Any] = {key: value for key, value in cut.items() if value is not None}
    short = bool(changes)
    if args.data:
        changes['data.data_dir'] = args.data
    workdir, folder = pathlib.Path(args.workdir), pathlib.Path(args.records)
    all_ = runner.shard(runner.jobs(chosen, args.seeds, workdir, changes, args.vgg16), args.shard)

    def finished(job: runner.Job, summary: dict[str, Any]) -> str:
        if short:
            return f'{images_seen(job):,} images seen'
        record = records.create(job.workdir, job.experiment, args.note)
        path = records.write(record, folder)
        theirs = job.experiment.published['test_accuracy']
        return f'test accuracy {summary["test_accuracy"]:.2f}% (published {theirs}), {path}'

    missing = [job for job in all_ if not job.done(None if short else folder)]
    failed = runner.run(missing, len(all_) - len(missing), finished)
    if failed:
        raise UserError(
            f'{len(failed)} runs failed, see above: {", ".join(failed)}. The same command tries again'
        )
    if short:
        print('No verdict: the runs were shortened.')


def images_seen(job: Any) -> int:
    """How many images the run trained on, each as often as it was taken."""
    rows = map(json.loads, (job.workdir / 'metrics.jsonl').read_text().splitlines())
    return round(sum(row['images_per_second'] * row['seconds'] for row in rows))


def collect(folder: str) -> None:
    """Makes the tables and pages anew from the records."""
    from train.reproduction import html, page, records, table

    there, refused = records.read(pathlib.Path(folder))
    for line in refused:
        print(f'refused: {line}')
    readme = pathlib.Path('README.md')
    files = {
        pathlib.Path('docs/reproduction.md'): page.markdown(there, refused),
        pathlib.Path(folder) / 'reproduction.csv': table.table_csv(table.rows(there)),
        pathlib.Path(folder) / 'reproduction.html': html.page(there),
        readme: page.readme(readme.read_text(), there),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == '__main__':
    sys.exit(cli.guarded(main, sys.argv))
