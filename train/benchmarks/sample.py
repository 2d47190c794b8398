"""A set's images written in every format that `sources` reads, to compare readers on the same images."""

import contextlib
import io
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from train.data.download import formats
from train.data.imageset import ImageSet
from train.data.sources.cifar import CifarPickles

ARRAY_RECORD, TF_RECORD = 'TFDS, ArrayRecord', 'TFDS, TFRecord'
FOLDER, TORCHVISION = 'folder of PNG files', "torchvision's files"
# What config.data.source calls each.
SOURCES = {ARRAY_RECORD: 'tfds', TF_RECORD: 'tfds', FOLDER: 'folder', TORCHVISION: 'torch'}


def write(images: ImageSet, root: pathlib.Path) -> dict[str, pathlib.Path]:
    """{format: data_dir} of the images, all in the split 'train', under the name `images.name`.

    torchvision's files are CIFAR-10's, and left out for another set.
    """
    places = {
        ARRAY_RECORD: write_array_records(images, root / 'array_record'),
        TF_RECORD: root / 'tfrecord',
        FOLDER: write_folder(images, root / 'folder'),
    }
    for version in (places[ARRAY_RECORD] / images.name).iterdir():
        formats.rewrite(version, places[TF_RECORD] / images.name / version.name, 'tfrecord')
    if images.name == 'cifar10':
        places[TORCHVISION] = write_pickles(images, root / 'torch')
    return places


def write_array_records(images: ImageSet, root: pathlib.Path) -> pathlib.Path:
    """A TFDS directory, by TFDS's own writer."""
    import tensorflow_datasets as tfds

    height, width, channels = images.image_shape
    features = tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(height, width, channels), encoding_format='png'),
            'label': tfds.features.ClassLabel(names=list(images.class_names)),
        }
    )

    def examples() -> Iterator[tuple[int, dict[str, Any]]]:
        for i, item in enumerate(images):
            yield i, {'image': io.BytesIO(png(item['image'])), 'label': item['label']}

    tfds.disable_progress_bar()
    builder = tfds.dataset_builders.AdhocBuilder(
        name=images.name,
        version='1.0.0',
        features=features,
        split_datasets={'train': ()},
        data_dir=root,
        file_format='array_record',
        disable_shuffling=True,
    )
    # The builder's own method tests for a tf.data.Dataset, which needs TensorFlow.
    builder._split_generators = lambda _: {'train': examples()}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints messages about downloading
        builder.download_and_prepare()
    return root


def write_folder(images: ImageSet, root: pathlib.Path) -> pathlib.Path:
    """`<name>/train/<class>/<number>.png`."""
    for i, item in enumerate(images):
        folder = root / images.name / 'train' / images.class_names[item['label']]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{i:06d}.png').write_bytes(png(item['image']))
    return root


def write_pickles(images: ImageSet, root: pathlib.Path) -> pathlib.Path:
    """`cifar-10-batches-py` without test images."""
    folder = root / CifarPickles.FOLDERS['cifar10']
    folder.mkdir(parents=True)
    files = CifarPickles.FILES['cifar10']['train']
    rows = images.images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for file, part in zip(files, np.array_split(np.arange(len(images)), len(files)), strict=True):
        content = {'data': np.ascontiguousarray(rows[part]), 'labels': images.labels[part].tolist()}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': list(images.class_names)}))
    return root


def png(image: np.ndarray) -> bytes:
    """A PNG file's bytes."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, format='PNG')
    return file.getvalue()
