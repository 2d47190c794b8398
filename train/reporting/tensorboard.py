"""TensorBoard's event file: one in a workdir, however often the run resumes, written without a thread.

A writer with its own thread, as in TensorBoard's libraries, hangs or prints pages when a disk is full.
"""

import pathlib
import socket
import struct
import time
from collections.abc import Iterator

from flaxnets.interop.atomic import replacing
from train.runtime import imports

PATTERN = '*.tfevents.*'


class Events:
    """Curves in `folder`: those of earlier processes up to `step`, and what is added."""

    def __init__(self, folder: pathlib.Path, step: int):
        with imports.without('torch'):  # tensorboardX would import it, for a second
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c

        self.event, self.summary, self.crc = event_pb2.Event, summary_pb2.Summary, masked_crc32c
        earlier = sorted(folder.glob(PATTERN))
        # A run that was killed left points after its last checkpoint, and makes them again.
        records = [record for file in earlier for record, at in read(file) if at <= step]
        version = self._framed(self.event(wall_time=time.time(), file_version='brain.Event:2'))
        path = folder / f'events.out.tfevents.{time.time_ns() // 10**6}.{socket.gethostname()}'
        with replacing(path) as partial:
            # Once each: a process that was killed below has left them in two files.
            partial.write_bytes(b''.join([version, *dict.fromkeys(records)]))
        for file in earlier:
            if file != path:
                file.unlink()
        self.file = path.open('ab', buffering=0)

    def add(self, values: dict[str, float], step: int) -> None:
        """A point of each curve."""
        points = [self.summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        event = self.event(wall_time=time.time(), step=step, summary=self.summary(value=points))
        self.file.write(self._framed(event))

    def add_pictures(self, pictures: dict[str, bytes], step: int) -> None:
        """Pictures by tag, each a PNG file's bytes."""
        values = []
        for tag, data in pictures.items():
            width, height = struct.unpack_from('>II', data, 16)  # the first chunk of a PNG file says its size
            image = self.summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)
            values.append(self.summary.Value(tag=tag, image=image))
        event = self.event(wall_time=time.time(), step=step, summary=self.summary(value=values))
        self.file.write(self._framed(event))

    def close(self) -> None:
        """Ends the file."""
        self.file.close()

    def _framed(self, event) -> bytes:
        data = event.SerializeToString()
        length = struct.pack('<Q', len(data))
        crcs = [struct.pack('<I', self.crc(part)) for part in (length, data)]
        return length + crcs[0] + data + crcs[1]


def read(file: pathlib.Path) -> Iterator[tuple[bytes, int]]:
    """Each whole record of values, framed as it is stored, and its step."""
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
        if event.WhichOneof('what') != 'file_version':
            yield content[start:end], event.step
        start = end
