"""Hostile and damaged input: every reader returns a result or a `UserError`, and runs nothing it reads.

`FUZZ_EXAMPLES=3000 pytest tests/test_fuzz.py`, which is `make fuzz`, tries more, and others every time.
"""

import gzip
import io
import json
import os
import pathlib
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest
import runs
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_sets import Call

from flaxnets import interop
from flaxnets.errors import UserError
from train import config as options
from train import config_flags
from train.data.sources.cifar import CifarPickles
from train.data.sources.idx import IdxFiles

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', '0'))
MEMORY = 6 * 2**30


def fuzz(examples):
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope='module', autouse=True)
def _limited_memory():
    """A size that a file claims must not become memory: more than this is an error that fails the test."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz')


def outcome(read, *args):
    """What `read` gives, or its one line; anything else it raises fails the test."""
    try:
        return read(*args)
    except UserError as error:
        line = str(error)
    assert line.strip()
    assert '\n' not in line
    return None


@st.composite
def damaged(draw, whole):
    """`whole`, a strategy of bytes, with some of them changed, cut, doubled or put in."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        span = draw(st.integers(1, 16))
        kind = draw(st.sampled_from(['flip', 'set', 'cut', 'insert', 'double', 'end']))
        if kind == 'flip' and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'set':
            content[at : at + span] = draw(st.sampled_from([b'\xff', b'\0', b'\x7f'])) * span
        elif kind == 'cut':
            del content[at : at + span]
        elif kind == 'insert':
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == 'double':
            content[at:at] = content[at : at + span]
        else:
            del content[at:]
    return bytes(content)


def images_and_labels(source):
    """All images of a source, as the program reads them."""
    records = source.read('test')
    items = list(records.items)
    assert len(items) == records.count
    for image, label in items:
        assert image.dtype == np.uint8
        assert 0 <= label < len(records.class_names)


def idx(shape, data):
    return struct.pack(f'>{1 + len(shape)}I', 0x800 + len(shape), *shape) + data


IMAGES = idx((3, 2, 2), bytes(range(12)))
LABELS = idx((3,), b'\1\2\3')
SIZES = st.sampled_from([0, 1, 2, 3, 255, 2**31, 2**32 - 1])
CLAIMS = st.builds(lambda *shape: idx(shape, bytes(12)), SIZES, SIZES, SIZES)


@fuzz(400)
@given(
    images=damaged(st.just(IMAGES) | CLAIMS) | st.binary(max_size=40),
    labels=damaged(st.just(LABELS)),
    zipped=st.sampled_from(['no', 'yes', 'claimed', 'cut']),
)
def test_idx(folder, images, labels, zipped):
    for name, content in (('images-idx3', images), ('labels-idx1', labels)):
        plain, packed = (folder / f't10k-{name}-ubyte{suffix}' for suffix in ('', '.gz'))
        plain.unlink(missing_ok=True), packed.unlink(missing_ok=True)
        if zipped == 'no':
            plain.write_bytes(content)
        else:
            whole = content if zipped == 'claimed' else gzip.compress(content, 1)
            packed.write_bytes(whole[: -4 if zipped == 'cut' else None])
    outcome(images_and_labels, IdxFiles(folder, 'mnist'))


def cifar(**changes):
    rows = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    return {b'data': rows, b'labels': [1, 2], b'batch_label': b'x', b'filenames': [b'a', b'b']} | changes


def hostile(folder):
    """Objects whose pickles run something when they are loaded."""
    marker = str(folder / 'ran')
    return [
        Call(os.system, f'touch {marker}'),
        Call(os.mkdir, marker),
        Call(eval, f'open({marker!r}, "w")'),
        Call(io.open, marker, 'w'),
        Call(np.save, marker, np.zeros(1)),
        Call(getattr, 'x', 'upper'),
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=8) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
BATCHES = st.builds(pickle.dumps, st.just(cifar()), st.sampled_from([0, 2, 4]))


@fuzz(400)
@given(
    batch=damaged(BATCHES) | st.builds(pickle.dumps, PLAIN) | st.binary(max_size=60),
    damage_meta=st.booleans(),
)
def test_cifar(folder, batch, damage_meta):
    meta = pickle.dumps({b'label_names': [b'a'] * 10}, 2)
    (folder / 'batches.meta').write_bytes(batch if damage_meta else meta)
    (folder / 'test_batch').write_bytes(meta if damage_meta else batch)
    outcome(images_and_labels, CifarPickles(folder, 'cifar10'))


def test_no_pickle_is_run(folder):
    meta = pickle.dumps({b'label_names': [b'a'] * 10}, 2)
    (folder / 'batches.meta').write_bytes(meta)
    (folder / 'test_batch').write_bytes(pickle.dumps(cifar()))
    images_and_labels(CifarPickles(folder, 'cifar10'))
    for evil in hostile(folder):
        for content in (evil, [evil], cifar(**{'x': evil}), cifar() | {b'data': evil}):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                data = pickle.dumps(content, protocol)
                (folder / 'test_batch').write_bytes(data)
                with pytest.raises(UserError, match='test_batch'):
                    images_and_labels(CifarPickles(folder, 'cifar10'))
                for name, file in (('plain.pt', data), ('zip.pt', archive({'x/data.pkl': data}))):
                    (folder / name).write_bytes(file)
                    with pytest.raises(UserError, match=name):
                        interop.load(folder / name)
    assert not (folder / 'ran').exists()


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
HEADER = st.fixed_dictionaries(
    {'a': st.fixed_dictionaries({'dtype': st.sampled_from(['F32', 'I64', 'BF16', 'X', '']),
                                 'shape': st.lists(st.integers(-1, 2**40), max_size=3),
                                 'data_offsets': st.lists(st.integers(-1, 2**62), min_size=1, max_size=3)})},
    optional={'__metadata__': JSON, 'b': JSON},
)  # fmt: skip


def safetensors_file(header, data=bytes(16)):
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data


WHOLE = safetensors.numpy.save({'a': np.ones((2, 2), np.float32), 'b': np.arange(3)}, {'flaxnets': '{}'})


@fuzz(300)
@given(
    content=damaged(st.just(WHOLE))
    | st.builds(safetensors_file, HEADER)
    | damaged(st.builds(safetensors_file, HEADER))
)
def test_safetensors(folder, content):
    (folder / 'a.safetensors').write_bytes(content)
    outcome(interop.load, folder / 'a.safetensors')


def torch_files():
    torch = pytest.importorskip('torch')
    files = []
    for legacy in (False, True):
        buffer = io.BytesIO()
        state = {'weight': torch.ones(2, 3), 'bias': torch.zeros(2, dtype=torch.int64)}
        torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
        files.append(buffer.getvalue())
    return files


@fuzz(250)
@given(data=st.data())
def test_pt(folder, data):
    content = data.draw(damaged(st.sampled_from(TORCH)))
    (folder / 'a.pt').write_bytes(content)
    outcome(interop.load, folder / 'a.pt')


try:
    TORCH = torch_files()
except pytest.skip.Exception:
    TORCH = [archive({'x/data.pkl': pickle.dumps({'a': 1})})]


def test_an_archive_reaches_nothing_outside(folder):
    pytest.importorskip('torch')
    for name in ('../evil', '/tmp/flaxnets_evil', 'x/../../evil'):
        files = {'x/data.pkl': pickle.dumps({}), 'x/version': b'3', name: b'evil'}
        (folder / 'a.pt').write_bytes(archive(files))
        outcome(interop.load, folder / 'a.pt')
    assert not (folder.parent / 'evil').exists()
    assert not pathlib.Path('/tmp/flaxnets_evil').exists()


WORDS = st.sampled_from(
    ['digits', 'layers', 'layers=4', 'digits=true', '=', '', 'layers=', 'x=y', '0', '-1', '1e9']
)
TEXT = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=12)


@fuzz(300)
@given(argument=st.lists(WORDS | TEXT, max_size=4).map(','.join))
def test_config_argument(argument):
    command = ['train', '--config', f'{runs.ROOT}/configs/branching_attn.py:{argument}']
    outcome(config_flags.parse, command)


KEYS = st.sampled_from(
    [*options.OPTIONS, 'model.num_layers', 'model', 'data', 'x', 'data.x', 'model.x.y', '']
)
VALUES = st.sampled_from(
    [
        *(
            '0',
            '-1',
            '1e400',
            'nan',
            'inf',
            'None',
            'True',
            '()',
            '(1,)',
            '(1,"a")',
            '[',
            '{}',
            "'",
            '',
            '1_000',
        ),
        *('1 epoch', '10**9', '__import__("os").getcwd()', 'cosine', '0x10', '9' * 30, 'digits'),
    ]
)


@fuzz(300)
@example(overrides=[('checkpoint.every', 'nan')])
@example(overrides=[('data.std', '(1,"a")'), ('data.mean', '(1,2)')])
@example(overrides=[('checkpoint.every', 'inf steps')])
@given(overrides=st.lists(st.tuples(KEYS | TEXT, VALUES | TEXT), min_size=1, max_size=3))
def test_config_overrides(overrides):
    command = ['train', '--config', f'{runs.ROOT}/configs/branching_attn.py:digits']
    command += [f'--config.{key}={value}' for key, value in overrides]
    if (parsed := outcome(config_flags.parse, command)) is not None:
        assert options.validate(parsed[0]).to_dict() == parsed[0].to_dict()
