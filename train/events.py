"""TensorBoard's event files after a resume: one file holds what came before, however often that was."""

import pathlib
import struct
from collections.abc import Iterator

PATTERN = '*.tfevents.*'
# TensorBoard reads a folder's files in the order of their names: this one comes before any with a time.
EARLIER = 'events.out.tfevents.0000000000.earlier'


def keep_up_to(folder: pathlib.Path, step: int) -> None:
    """Gathers the events of all files in `folder` up to `step` into one and deletes the others.

    A run that was killed leaves points after its last checkpoint, and perhaps half a record; it makes
    both again. Without this every resume would add a file.
    """
    files = sorted(folder.glob(PATTERN))
    if not files:
        return
    records = [record for file in files for record, at in _records(file) if at <= step]
    partial = folder / 'events.partial'
    with partial.open('wb') as gathered:
        gathered.writelines(dict.fromkeys(records))  # once each, should this have been killed half-way
    partial.replace(folder / EARLIER)
    for file in files:
        if file.name != EARLIER:
            file.unlink()


def _records(file: pathlib.Path) -> Iterator[tuple[bytes, int]]:
    """Each whole record of values, as it is framed, and its step; each file's first names the format."""
    from tensorboardX.proto import event_pb2

    content = file.read_bytes()
    start = 0
    while start + 16 <= len(content):
        (length,) = struct.unpack_from('<Q', content, start)
        end = start + 12 + length + 4
        if end > len(content):
            return
        try:
            event = event_pb2.Event.FromString(content[start + 12 : end - 4])
        except Exception:  # the protobuf backends raise errors of their own
            return
        if file.name == EARLIER or event.WhichOneof('what') != 'file_version':
            yield content[start:end], event.step
        start = end
