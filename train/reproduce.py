"""Trains published experiments and compares: `python -m train.reproduce SUITE [--help]`."""

import argparse
import datetime
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from flaxnets.errors import UserError
from train import cli, provenance
from train.arguments import Parser

EXAMPLES = """
  python -m train.reproduce vit --list
  python -m train.reproduce convnn --only 'branching*' --seeds 3 --data ~/data
  python -m train.reproduce all --epochs 1 --limit 1500 --test-limit 1000
  python -m train.reproduce convnn --shard 1/4     on each of four GPUs, 2/4, 3/4, 4/4 on the others; then
  python -m train.reproduce all --collect

Run it again to continue. Run it in the checkout, which has configs/ and results/.
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
    made = Parser(
        'train.reproduce', "Train the documents' experiments and compare with what was published.", EXAMPLES
    )
    add = made.add_argument
    add(
        'suite',
        nargs='?',
        default='all',
        help='convnn, block_cnn, expert_cnn, vit, profiled, mnist, all of these; or framework_ratio, '
        'framework_neighbors, framework_samples, framework_vit, framework_small',
    )
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
    add('--epochs', type=int, help='not as published: only a check that everything runs, no records')
    add('--limit', type=int, help='train on this many images: likewise only a check')
    add('--test-limit', type=int, help='test on this many images: likewise only a check')
    return made


def show(experiment: Any) -> None:
    """A line of what is run, and one of what was published."""
    settings = ''.join(f' --config.{key}={value}' for key, value in experiment.overrides.items())
    print(f'{experiment.name:<36} --config {experiment.config}{settings}')
    figures = {k: v for k, v in experiment.published.items() if k not in ('curve', 'class_accuracy')}
    if not figures:
        return
    print(
        '  published: '
        + ', '.join(f'{k} {v:g}' if isinstance(v, float) else f'{k} {v}' for k, v in figures.items())
    )
    if experiment.choice:
        print(f'  chosen: {experiment.choice}')


def run(args: argparse.Namespace, chosen: list[Any]) -> None:
    """Trains what is missing, and leaves a record of each run; of shortened ones, what they have seen."""
    from train.reproduction import check, records, runner

    cut = {'epochs': args.epochs, 'data.limit': args.limit, 'data.test_limit': args.test_limit}
    cut = {key: value for key, value in cut.items() if value is not None}
    place: dict[str, Any] = {'data.data_dir': args.data} if args.data else {}
    if cut:
        place['log.report'] = False  # nobody reads the reports of shortened runs
    workdir, folder = pathlib.Path(args.workdir), pathlib.Path(args.records)
    jobs = runner.jobs(chosen, args.seeds, workdir, cut | place, args.vgg16)
    mine = runner.shard(jobs, args.shard)
    missing = [job for job in mine if not job.done(None if cut else folder)]
    today = datetime.date.today().isoformat()
    short = check.Check(cut, today, provenance.commit(), records.hardware())

    def finished(job: runner.Job, summary: dict[str, Any]) -> str:
        if cut:
            return short.saw(job.name, job.workdir)
        path = records.write(records.create(job.workdir, job.experiment, args.note), folder)
        key = job.experiment.compares
        theirs = job.experiment.published.get(key, 'for other networks')
        return f'{key.replace("_", " ")} {summary[key]:.2f}% (published {theirs}), {path}'

    started = time.monotonic()
    failed = runner.run(missing, len(mine) - len(missing), finished)
    if cut:
        short.failed = failed
        print(short.write(workdir, args.shard, started))
    if failed:
        raise UserError(
            f'{len(failed)} runs failed, see above: {", ".join(failed)}. The same command tries again'
        )


def collect(folder: str) -> None:
    """Makes the tables and pages again from the records."""
    from train.reproduction import check, html, page, records, table

    print('comparing what the models compute with what they computed when the records were made')
    there, refused = records.read(pathlib.Path(folder))
    for line in refused:
        print(f'refused: {line}')
    readme = pathlib.Path('README.md')
    files = {
        pathlib.Path('docs/reproduction.md'): page.markdown(there, refused, check.read(pathlib.Path(folder))),
        pathlib.Path('docs/reproduction_framework.md'): page.framework(there),
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
