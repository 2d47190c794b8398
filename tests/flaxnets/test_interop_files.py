"""Files in PyTorch's formats and safetensors, good and bad; arrays that cross live."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import struct
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxnets import UserError, create_model, interop, registry
from flaxnets.interop.files import BadFile, read
from flaxnets.interop.model_card import ModelCard

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason='PyTorch is not installed')

OPTIONS = {'image_shape': (8, 8, 3), 'width': 4, 'num_classes': 10}
CARD = ModelCard(
    architecture='cnn',
    options=OPTIONS,
    parameters=2830,
    preprocessing={'mean': (0.5,), 'std': (0.25,), 'size': (8, 8), 'class_names': ('a', 'b')},
    metrics={'test_accuracy': 61.2},
    config={'epochs': 3},
)


@pytest.fixture(scope='module')
def model():
    return create_model('cnn', rngs=nnx.Rngs(0), **OPTIONS)


@pytest.fixture(params=[pytest.param(True, marks=needs_torch), False], ids=['with torch', 'without torch'])
def reader(request, monkeypatch):
    """`interop.load` where PyTorch is installed, or as if it were not."""

    def load(path):
        if not request.param:
            monkeypatch.setitem(sys.modules, 'torch', None)
        try:
            return interop.load(path)
        finally:
            monkeypatch.undo()

    return load


def equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], strict=True)


@pytest.fixture(scope='module')
def pt(model, tmp_path_factory):
    """What plain PyTorch code saves after training."""
    if torch is None:
        pytest.skip('PyTorch is not installed')
    weights = tensors_of(model)
    parameters = [torch.nn.Parameter(value.clone()) for value in weights.values()]
    optimizer = torch.optim.Adam(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    path = tmp_path_factory.mktemp('pt') / 'model.pt'
    content = {'epoch': 3, 'state_dict': weights, 'optimizer': optimizer.state_dict(), 'loss': 0.5}
    torch.save(content, path)
    return path


def tensors_of(model):
    return {key: torch.from_numpy(value) for key, value in interop.to_torch(model).items()}


def test_plain_pytorch_files(pt, model, reader):
    checkpoint = reader(pt)
    equal(checkpoint.state_dict, interop.to_torch(model))
    assert set(checkpoint.optimizer['state']) == set(range(len(checkpoint.state_dict)))
    assert checkpoint.card is None
    with pytest.raises(UserError, match='no model card'):
        checkpoint.create_model()


@needs_torch
def test_tensors_of_every_kind(tmp_path, reader):
    base = torch.arange(24.0)
    tensors = {
        'view': base[3:21].reshape(3, 6)[:, ::2],
        'transposed': base.reshape(4, 6).T,
        'shared': base,
        'scalar': torch.tensor(3),
        'empty': torch.zeros(0, 3),
        'bfloat16': base.bfloat16(),
        'half': base.half(),
        'bool': base > 3,
        'int8': base.char(),
        'parameter': torch.nn.Parameter(base),
        'double': base.double(),
    }
    torch.save(tensors, tmp_path / 'a.pt')
    loaded = reader(tmp_path / 'a.pt').state_dict
    assert loaded['bfloat16'].dtype == jnp.bfloat16
    for key, tensor in tensors.items():
        assert loaded[key].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(loaded[key].astype(float), tensor.detach().double().numpy())


@needs_torch
def test_old_format_needs_pytorch(tmp_path, model, monkeypatch):
    path = tmp_path / 'old.pth'
    torch.save(tensors_of(model), path, _use_new_zipfile_serialization=False)
    equal(interop.load(path).state_dict, interop.to_torch(model))
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match=r'before 1\.6.*flaxnets\[torch\]'):
        interop.load(path)


NAMES = ['m.safetensors', *(pytest.param(name, marks=needs_torch) for name in ('m.pt', 'm.pth'))]


@pytest.mark.parametrize('name', NAMES)
def test_a_model_travels_with_its_card(name, tmp_path, model):
    interop.save(tmp_path / name, model, CARD)
    checkpoint = interop.load(tmp_path / name)
    assert checkpoint.card == CARD
    equal(interop.to_torch(checkpoint.create_model()), interop.to_torch(model))
    # A file without a card replaces it, card and all.
    interop.save(tmp_path / name, interop.to_torch(model))
    assert interop.load(tmp_path / name).card is None
    assert [path.name for path in tmp_path.iterdir()] == [name]


@needs_torch
def test_exports_are_plain_files_to_others(tmp_path, model):
    interop.save(tmp_path / 'm.pt', model, CARD)
    loaded = torch.load(tmp_path / 'm.pt', weights_only=True)
    equal({key: value.numpy() for key, value in loaded.items()}, interop.to_torch(model))
    assert json.loads((tmp_path / 'm.pt.json').read_text())['architecture'] == 'cnn'
    interop.save(tmp_path / 'm.safetensors', model, CARD)
    equal(safetensors.numpy.load_file(tmp_path / 'm.safetensors'), interop.to_torch(model))


@pytest.mark.parametrize('name', NAMES)
def test_bfloat16_travels(name, tmp_path):
    values = {'a': np.arange(4).astype(jnp.bfloat16).reshape(2, 2).T}
    interop.save(tmp_path / name, values)
    equal(interop.load(tmp_path / name).state_dict, values)


def test_every_length_of_a_header_is_read(tmp_path):
    """It stands at the beginning of the file, where pickles and zip archives have their marks."""
    beginnings = set()
    for length in range(0, 256, 8):
        safetensors.numpy.save_file({'a': np.ones(2)}, tmp_path / 'm.safetensors', {'x': 'y' * length})
        beginnings.add((tmp_path / 'm.safetensors').read_bytes()[0])
        np.testing.assert_array_equal(interop.load(tmp_path / 'm.safetensors').state_dict['a'], np.ones(2))
    assert 0x80 in beginnings


def test_a_model_without_a_map_travels_by_our_own_names(tmp_path):
    class Own(nnx.Module):
        def __init__(self, num_classes=3, image_shape=(2, 2, 1), **types):
            self.linear = nnx.Linear(4, num_classes, **types)

    registry.register('own', Own, document='test', meaning='a linear layer')
    try:
        model = create_model('own', rngs=nnx.Rngs(0))
        with pytest.raises(UserError, match='Own has no PyTorch map'):
            interop.save(tmp_path / 'm.safetensors', model)
        with pytest.raises(UserError, match=r'ends in \.safetensors'):
            interop.save(tmp_path / 'm.pt', model, own=True)
        interop.save(tmp_path / 'm.safetensors', model, ModelCard('own'), own=True)
        checkpoint = interop.load(tmp_path / 'm.safetensors')
        assert set(checkpoint.state_dict) == {'linear/kernel', 'linear/bias'}
        np.testing.assert_array_equal(checkpoint.create_model().linear.kernel, model.linear.kernel)
    finally:
        del registry.MODELS['own']


def test_a_card_runs_no_code(tmp_path, model, monkeypatch):
    """A file may name a module, which would be imported from the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'naughty.py').write_text('import pathlib\npathlib.Path("ran").touch()\n')
    interop.save('m.safetensors', model, dataclasses.replace(CARD, architecture='naughty:build'))
    with pytest.raises(UserError, match="the model card names a model of its own, 'naughty:build'"):
        interop.load('m.safetensors').create_model()
    assert not (tmp_path / 'ran').exists()


def test_writing_fails_in_a_line(tmp_path, model, monkeypatch):
    with pytest.raises(UserError, match=r'ends in \.safetensors, \.pt or \.pth'):
        interop.save(tmp_path / 'm.bin', model)
    for name in ['m.safetensors', *(['m.pt'] if torch else [])]:
        with pytest.raises(UserError, match='cannot be written'):
            interop.save(tmp_path / 'nowhere' / name, model)
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match=r'PyTorch is needed: pip install'):
        interop.save(tmp_path / 'm.pt', model)
    assert not list(tmp_path.iterdir())


class Evil:
    """A pickle of it runs a command when it is read by `pickle.load`."""

    def __reduce__(self):
        return os.system, ('touch evil',)


def zipped(data, *, name='archive/data.pkl', **others):
    """A zip archive like torch.save's around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, data)
        for other, content in others.items():
            archive.writestr(f'archive/{other}', content)
    return file.getvalue()


BAD = {
    'empty': (b'', 'empty'),
    'text': (b'hello world, hello', 'neither a PyTorch file nor safetensors'),
    'image': (b'\x89PNG\r\n\x1a\n0000', 'neither a PyTorch file nor safetensors'),
    'npz': (zipped(b'', name='a.npy'), r'not one of torch\.save'),
    'code': (zipped(pickle.dumps({'a': Evil()}, 2)), r'system.*nothing in it was run'),
    'object': (zipped(pickle.dumps({'a': CARD}, 2)), r'flaxnets\.interop\.model_card\.ModelCard.*state_dict'),
    'old code': (pickle.dumps(Evil(), 2), r'nothing|no PyTorch file|before 1\.6'),
    'plain pickle': (pickle.dumps({'a': [1.0]}, 2), 'no PyTorch file|only PyTorch reads'),
    'no tensors': (zipped(pickle.dumps({'epoch': 3}, 2)), 'got a dictionary of epoch'),
    'number': (zipped(pickle.dumps(3, 2)), 'got a int'),
    'cut pickle': (zipped(pickle.dumps({'a': 3}, 2)[:-3]), 'damaged'),
    'long header': (struct.pack('<Q', 10**15) + b'{"a":1}', 'damaged'),
    'no json': (struct.pack('<Q', 4) + b'{"a"', 'damaged'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_files_get_one_line(case, tmp_path, reader, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, message = BAD[case]
    path = tmp_path / 'bad.pt'
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        reader(path)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 400
    assert not (tmp_path / 'evil').exists()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UserError, match='No such file'):
        interop.load(tmp_path / 'nothing.pt')
    with pytest.raises(UserError, match='Is a directory'):
        interop.load(tmp_path)


@pytest.mark.parametrize('suffix', ['pt', 'safetensors'])
@pytest.mark.parametrize('keep', [0.1, 0.5, 0.95])
def test_truncated_files(suffix, keep, pt, model, tmp_path, reader):
    path = tmp_path / f'cut.{suffix}'
    if suffix == 'pt':
        path.write_bytes(pt.read_bytes())
    else:
        interop.save(path, model)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match='damaged or truncated') as error:
        reader(path)
    assert '\n' not in str(error.value)


def test_a_bad_card_is_named(tmp_path, model):
    safetensors.numpy.save_file(interop.to_torch(model), tmp_path / 'm.safetensors', {'flaxnets': '[1]'})
    with pytest.raises(UserError, match=r'm\.safetensors: model card'):
        interop.load(tmp_path / 'm.safetensors')


def hostile(offset, size, stride, *, count=4, stored=16):
    """An archive with a tensor of these measures over a storage of `stored` bytes."""

    storage = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ('storage', torch.FloatStorage, '0', 'cpu', count) if thing is storage else None

    class Tensor:
        def __reduce__(self):
            arguments = (storage, offset, size, stride, False, {})
            return torch._utils._rebuild_tensor_v2, arguments

    file = io.BytesIO()
    Pickler(file, 2).dump({'a': Tensor()})
    return zipped(file.getvalue(), **{'data/0': b'\0' * stored})


@pytest.mark.parametrize(
    ('offset', 'size', 'stride', 'more'),
    [
        (0, (5,), (1,), {}),
        (1, (4,), (1,), {}),
        (-1, (2,), (1,), {}),
        (0, (2,), (-1,), {}),
        (0, (2, 2), (10**15, 1), {}),
        (0, (10**12,), (0,), {}),
        (0, (2,), (1, 1), {}),
        (0, ('2',), (1,), {}),
        (0, (4,), (1,), {'stored': 12}),
        (0, (4,), (1,), {'count': 10**12}),
        (None, None, None, {}),
    ],
)
@needs_torch
def test_tensors_cannot_reach_beyond_their_storage(offset, size, stride, more):
    with pytest.raises(BadFile, match='damaged'):
        read(io.BytesIO(hostile(offset, size, stride, **more)))


@needs_torch
def test_an_honest_tensor_in_a_handmade_archive():
    np.testing.assert_array_equal(read(io.BytesIO(hostile(0, (2, 2), (2, 1))))['a'], np.zeros((2, 2)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_altered_files_are_read_or_refused(pt, data):
    original = pt.read_bytes()
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadFile):
        read(io.BytesIO(bytes(content)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_pickle_is_read_or_refused(data):
    with contextlib.suppress(BadFile):
        read(io.BytesIO(zipped(data)))


@needs_torch
def test_arrays_cross_without_a_copy():
    tensor = torch.arange(1024.0).reshape(4, 256)
    array = interop.to_jax(tensor)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    back = interop.to_tensor(array)
    assert back.data_ptr() == tensor.data_ptr()
    np.testing.assert_array_equal(back, tensor)


@needs_torch
def test_what_cannot_be_shared_is_copied():
    tensor = torch.arange(24.0).reshape(4, 6)
    for each in (
        tensor[:, ::2],
        tensor.T,
        tensor[1:].clone().requires_grad_(),
        tensor[:1].expand(3, 6),
        tensor.bfloat16(),
        tensor > 3,
        tensor.double(),
        torch.zeros(0, 2),
        torch.tensor(2),
    ):
        array = interop.to_jax(each)
        assert array.shape == tuple(each.shape)
        np.testing.assert_array_equal(array.astype(float), each.detach().double())
    for array in (jnp.ones((2, 3)).T, jnp.arange(3), jnp.ones(2, jnp.bfloat16), np.ones(3)):
        np.testing.assert_array_equal(interop.to_tensor(array).double(), np.asarray(array).astype(float))
    readonly = np.arange(3)
    readonly.setflags(write=False)
    np.testing.assert_array_equal(interop.to_tensor(readonly), readonly)
    half = np.ones(3, jnp.bfloat16)
    assert interop.to_tensor(half).dtype == torch.bfloat16


@needs_torch
def test_a_flaxnets_model_in_a_pytorch_evaluation_loop(model):
    data = torch.utils.data.TensorDataset(torch.rand(10, 3, 8, 8), torch.randint(0, 10, (10,)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    model.eval()
    forward = jax.jit(lambda images: model(images.transpose(0, 2, 3, 1)))
    correct = 0
    for images, labels in loader:
        logits = interop.to_tensor(forward(interop.to_jax(images)))
        correct += (logits.argmax(1) == labels).sum().item()
    images, labels = data.tensors
    expected = model(jnp.asarray(images.numpy().transpose(0, 2, 3, 1))).argmax(1) == labels.numpy()
    assert correct == expected.sum()


@needs_torch
def test_features_of_a_pytorch_model_in_ours():
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU()).eval()
    head = create_model('cnn', image_shape=(8, 8, 4), width=4, rngs=nnx.Rngs(0))
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        maps = interop.to_jax(features(images)).transpose(0, 2, 3, 1)
    gradient = jax.grad(lambda weights: (maps @ weights).sum())(jnp.ones((4, 2)))
    assert head(maps).shape == (2, 10)
    assert np.isfinite(gradient).all()
