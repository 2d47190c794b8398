"""A TFDS set downloaded and written as ArrayRecord, in TFDS's own layout, without TensorFlow."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import filelock
import numpy as np
from PIL import Image

from flaxnets.errors import UserError
from train.data.download.archives import OFFICIAL
from train.data.download.fetch import check_reachable, fetch
from train.progress import Progress, shown
from train.runtime.causes import causes

MB = 10**6


def prepare(name: str, data_dir: pathlib.Path, downloads: pathlib.Path | None = None) -> pathlib.Path:
    """Download the set `name` and write it under `data_dir`, if it is not there; returns its directory.

    The four sets of `OFFICIAL` are fetched and read here, resumably; others by TFDS's code for them, which
    for some needs TensorFlow. The directory appears when it is complete. Raises UserError within seconds
    without network, and for a name TFDS does not know. Archives are kept in `downloads`, by default under
    `data_dir`.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = create_builder(name, data_dir)
    archives = (downloads or data_dir / 'downloads') / builder.name
    folder = pathlib.Path(builder.data_path)
    if not folder.exists() and (urls := _urls(builder, archives)):
        check_reachable(urls[0])
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{data_dir} cannot be made ({error})') from error
    with filelock.FileLock(data_dir / f'.{builder.name}.lock'):
        if not folder.exists():
            encode_without_tensorflow(builder.info.features)
            with one_line(name):
                if builder.name in OFFICIAL:
                    with shown() as progress:
                        _from_archives(builder, archives, progress)
                else:
                    builder.download_and_prepare()
    return folder


def create_builder(name: str, data_dir: pathlib.Path) -> Any:
    """TFDS's own code for a set, which writes ArrayRecord under `data_dir`."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=str(data_dir), file_format='array_record')
    except tfds.core.DatasetNotFoundError as error:
        from flaxnets.registry import near

        known = tfds.list_builders(with_community_datasets=False)
        raise UserError(f'TFDS has no set {name!r}. {near(name, known)}') from error
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f'TFDS cannot build {name!r} ({_line(error)})') from error


def _urls(builder: Any, folder: pathlib.Path) -> list[str]:
    """What must be downloaded into `folder`, as far as it is known."""
    if builder.name in OFFICIAL:
        return [a.url for a in OFFICIAL[builder.name].archives if not (folder / a.file_name).exists()]
    return list(builder.url_infos or {})


def _from_archives(builder: Any, downloads: pathlib.Path, progress: Progress) -> None:
    official = OFFICIAL[builder.name]
    files = []
    for archive in official.archives:
        what = f'downloading {archive.file_name}'
        report = lambda done, size, what=what: progress(what, done // MB, size // MB, 'MB')  # noqa: E731
        files.append(fetch(archive, downloads, report))
    names, splits = official.read(files)
    for key, labels in names.items():
        builder.info.features[key].names = labels

    def examples(split: str) -> Iterator[tuple[int, dict]]:
        for i, example in enumerate(splits[split]):  # TFDS orders by the hash of this number
            if i % 1000 == 0:
                progress(f'writing {builder.name} {split}', i)
            yield i, example

    builder._split_generators = lambda _: {split: examples(split) for split in splits}
    builder.download_and_prepare()


def encode_without_tensorflow(features: Any) -> None:
    """Give TFDS pictures where its code for a set gives arrays, which it would encode with TensorFlow."""
    import tensorflow_datasets as tfds

    for feature in features.values():
        if isinstance(feature, tfds.features.Image):
            feature.encode_example = lambda image, encode=feature.encode_example: encode(
                Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
                if isinstance(image, np.ndarray)
                else image
            )


@contextlib.contextmanager
def one_line(name: str) -> Iterator[None]:
    """Raises a UserError for any error inside TFDS."""
    try:
        yield
    except Exception as error:
        for cause in causes(error):
            if type(cause) is UserError:
                raise cause from error
        if 'tensorflow' in str(error):
            raise UserError(f"TFDS's code for {name} needs TensorFlow: pip install tensorflow") from error
        raise UserError(f'{name} cannot be prepared ({_line(error)})') from error


def _line(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.split('\n')[0][:200]
