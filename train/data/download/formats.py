"""A TFDS directory in the other file format: ArrayRecord, which random access needs, or TFRecord."""

import json
import pathlib
from collections.abc import Iterator

from flaxnets.errors import UserError
from flaxnets.interop.atomic import replacing
from train.progress import shown

FORMATS = ('array_record', 'tfrecord')
BLOCK = 512  # records read at a time


def format_of(folder: pathlib.Path) -> str:
    """The file format that dataset_info.json names."""
    return str(json.loads((folder / 'dataset_info.json').read_text()).get('fileFormat', 'tfrecord'))


def rewrite(folder: pathlib.Path, to: pathlib.Path, format: str) -> pathlib.Path:
    """Write the TFDS directory `folder` in `format` as `to`, its records unchanged; returns `to`."""
    if to.exists():
        raise UserError(f'{to} exists; choose another --data_dir, or delete it first')
    before = format_of(folder)
    to.parent.mkdir(parents=True, exist_ok=True)
    with shown() as progress, replacing(to) as partial:
        partial.mkdir()
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            if f'.{before}-' in file.name:
                target = partial / file.name.replace(f'.{before}-', f'.{format}-')
                records = progress.track(_read(file, before), f'writing {target.name}', 0)
                (_write_tf_records if format == 'tfrecord' else _write_array_records)(target, records)
            else:
                (partial / file.name).write_bytes(file.read_bytes())
        info = json.loads((partial / 'dataset_info.json').read_text()) | {'fileFormat': format}
        (partial / 'dataset_info.json').write_text(json.dumps(info, indent=2))
    return to


def _read(file: pathlib.Path, format: str) -> Iterator[bytes]:
    if format == 'tfrecord':
        from grain.experimental import TFRecordIterDataset

        yield from TFRecordIterDataset(str(file))
        return
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(file))
    for start in range(0, reader.num_records(), BLOCK):
        yield from reader.read(start, min(start + BLOCK, reader.num_records()))
    reader.close()


def _write_tf_records(file: pathlib.Path, records: Iterator[bytes]) -> None:
    from tensorboardX.record_writer import RecordWriter

    writer = RecordWriter(str(file))
    for record in records:
        writer.write(record)
    writer.close()


def _write_array_records(file: pathlib.Path, records: Iterator[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(file), 'group_size:1')
    for record in records:
        writer.write(record)
    writer.close()
