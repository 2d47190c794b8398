"""`python -m train.prepare` with small archives in the publishers' formats, from a server on this machine."""

import dataclasses
import gzip
import hashlib
import http.server
import io
import pathlib
import re
import tarfile
import threading

import numpy as np
import pytest
import tiny_sets
from PIL import Image
from tiny_sets import as_set, config

from flaxnets.errors import UserError
from train import cli, data, prepare
from train.data.download import archives, fetch, write_tfds
from train.data.download.fetch import Archive


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `ranges` off ignores ranges, `cut` ends the first answers after so many bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.ranges, self.cut, self.asked = {}, True, [], []

    def archive(self, name):
        content = self.files[name]
        url = f'http://127.0.0.1:{self.server_port}/{name}'
        return Archive(url, len(content), hashlib.sha256(content).hexdigest())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        content = self.server.files.get(self.path.strip('/'))
        if content is None:
            self.send_error(404)
            return
        start = int(re.findall(r'\d+', self.headers.get('Range', '0'))[0]) if self.server.ranges else 0
        self.server.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        length = self.server.cut.pop(0) if self.server.cut else len(content)
        self.wfile.write(content[start : start + length])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as archive:
        for name, content in members.items():
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def cifar_members(given, label_bytes=1):
    """The binary version's files."""

    def rows(images, labels):
        parts = [
            np.stack([labels // 5, labels], 1)[:, 2 - label_bytes :],
            images.transpose(0, 3, 1, 2).reshape(len(labels), -1),
        ]
        return np.concatenate(parts, 1).astype(np.uint8).tobytes()

    if label_bytes == 2:
        return {
            'cifar-100-binary/train.bin': rows(*given['train']),
            'cifar-100-binary/test.bin': rows(*given['test']),
            'cifar-100-binary/coarse_label_names.txt': b''.join(b'coarse_%d\n' % i for i in range(20)),
            'cifar-100-binary/fine_label_names.txt': b''.join(b'fine_%d\n' % i for i in range(100)),
        }
    images, labels = given['train']
    folder = 'cifar-10-batches-bin'
    members = {f'{folder}/data_batch_{i + 1}.bin': rows(images[i::5], labels[i::5]) for i in range(5)}
    members[f'{folder}/test_batch.bin'] = rows(*given['test'])
    members[f'{folder}/batches.meta.txt'] = '\n'.join([*tiny_sets.CIFAR10, '']).encode()
    return members


@pytest.fixture
def publish(server, monkeypatch):
    """publish(name, {file: bytes}): the official set `name` is these files on the local server."""

    def publish(name, files):
        server.files |= files
        fetched = tuple(server.archive(file) for file in files)
        monkeypatch.setitem(
            archives.OFFICIAL, name, dataclasses.replace(archives.OFFICIAL[name], archives=fetched)
        )

    return publish


def idx_files(given):
    return {
        f'{stem}-{kind}-ubyte.gz': gzip.compress(tiny_sets.idx(array))
        for split, stem in (('train', 'train'), ('test', 't10k'))
        for kind, array in (('images-idx3', given[split][0][..., 0]), ('labels-idx1', given[split][1]))
    }


def official_reader(name, root, split):
    """What tensorflow-datasets itself reads."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(root))
    source = builder.as_data_source(split)
    return builder, [source[i] for i in range(len(source))]


def test_cifar10_is_what_tfds_reads(publish, cifar, tmp_path, capsys):
    publish('cifar10', {'cifar-10-binary.tar.gz': tar(cifar_members(cifar))})
    prepare.main(['prepare', 'cifar10', '--data_dir', str(tmp_path / 'root')])
    assert f'cifar10: ready in {tmp_path}/root/cifar10/3.0.2' in capsys.readouterr().out
    for split in cifar:
        builder, examples = official_reader('cifar10', tmp_path / 'root', split)
        assert as_set([e['image'] for e in examples], [e['label'] for e in examples]) == as_set(*cifar[split])
        assert sorted(e['id'] for e in examples)[1].decode() == f'{split}_00001'
    assert builder.info.features['label'].names == list(tiny_sets.CIFAR10)
    images = data.load(config(name='cifar10', data_dir=tmp_path / 'root'), 'train')
    assert as_set(images.images, images.labels) == as_set(*cifar['train'])


def test_cifar100(publish, tmp_path):
    given = tiny_sets.arrays(classes=100, counts={'train': 100, 'test': 100})
    publish('cifar100', {'cifar-100-binary.tar.gz': tar(cifar_members(given, label_bytes=2))})
    write_tfds.prepare('cifar100', tmp_path)
    _, examples = official_reader('cifar100', tmp_path, 'test')
    assert as_set([e['image'] for e in examples], [e['label'] for e in examples]) == as_set(*given['test'])
    assert all(e['coarse_label'] == e['label'] // 5 for e in examples)
    images = data.load(config(name='cifar100', data_dir=tmp_path), 'test')
    assert images.class_names[7] == 'fine_7'


@pytest.mark.parametrize('name', ['mnist', 'fashion_mnist'])
def test_loading_downloads_what_is_nowhere(name, publish, mnist, tmp_path):
    publish(name, idx_files(mnist))
    chosen = config(name=name, data_dir=tmp_path / 'root', download=True)
    for split in mnist:
        images = data.load(chosen, split)
        assert as_set(images.images, images.labels) == as_set(*mnist[split])
    assert images.class_names[1] == {'mnist': '1', 'fashion_mnist': 'Trouser'}[name]
    official_reader(name, tmp_path / 'root', 'train')


CONTENT = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture
def archive(server):
    server.files['archive.bin'] = CONTENT
    return server.archive('archive.bin')


def test_a_download_that_breaks_off_goes_on(archive, server, tmp_path):
    server.cut = [300_000, 200_000]
    assert fetch.fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [0, 300_000, 500_000]
    server.asked.clear()
    fetch.fetch(archive, tmp_path)
    assert server.asked == []


def test_a_later_run_resumes(archive, server, tmp_path):
    server.cut = [100_000] * fetch.ATTEMPTS
    with pytest.raises(
        UserError, match=r'500000 of 1000000 bytes came .*run the same command again to go on'
    ):
        fetch.fetch(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['archive.bin.part']
    seen = []
    fetch.fetch(archive, tmp_path, lambda done, size: seen.append((done, size)))
    assert server.asked[-1] == 500_000
    assert seen[0][0] > 500_000
    assert seen[-1] == (1_000_000, 1_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ['archive.bin']


def test_a_server_without_ranges_sends_it_again(archive, server, tmp_path):
    (tmp_path / 'archive.bin.part').write_bytes(CONTENT[:400_000])
    server.ranges = False
    assert fetch.fetch(archive, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize('part', [b'x' * 400_000, b'x' * 1_000_000, b'x' * 1_000_001])
def test_the_beginning_of_another_file_is_thrown_away(part, archive, tmp_path):
    (tmp_path / 'archive.bin.part').write_bytes(part)
    assert fetch.fetch(archive, tmp_path).read_bytes() == CONTENT


def test_another_file_than_published_is_refused(archive, tmp_path):
    wrong = dataclasses.replace(archive, sha256='0' * 64)
    with pytest.raises(UserError, match=r'expected SHA-256 0000000000000000\.\.\., got .*try again later'):
        fetch.fetch(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_again(archive, tmp_path):
    (tmp_path / 'archive.bin').write_bytes(CONTENT[:-1] + b'?')
    assert fetch.fetch(archive, tmp_path).read_bytes() == CONTENT


def test_a_page_that_is_not_there(archive, server, tmp_path):
    with pytest.raises(UserError, match=r'0 of 1000000 bytes came .*Not Found'):
        fetch.fetch(dataclasses.replace(archive, url=archive.url + 'x'), tmp_path)


def test_a_host_that_is_not_there(tmp_path, monkeypatch):
    gone = Archive('http://127.0.0.1:9/archive.tar.gz', 1, '0')
    monkeypatch.setitem(
        archives.OFFICIAL, 'cifar10', dataclasses.replace(archives.OFFICIAL['cifar10'], archives=(gone,))
    )
    with pytest.raises(
        UserError, match=r'http://127\.0\.0\.1:9/archive\.tar\.gz cannot be reached .*refused'
    ):
        write_tfds.prepare('cifar10', tmp_path / 'root')
    assert not (tmp_path / 'root').exists()


def test_a_name_tfds_does_not_know(tmp_path, capsys):
    assert cli.guarded(prepare.main, ['prepare', 'cifar1', '--data_dir', str(tmp_path)]) == 2
    assert capsys.readouterr().err.count('\n') == 1
    with pytest.raises(UserError, match=r"no set 'cifar1'\. Did you mean cifar10"):
        write_tfds.prepare('cifar1', tmp_path)


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def test_archive_members_cannot_leave_their_folder(publish, cifar, tmp_path):
    hostile = {
        '../evil': b'x', '/tmp/../evil': b'x', 'cifar-10-batches-bin/../../../evil': b'x',
        link('cifar-10-batches-bin/link', '/etc'): b'', 'cifar-10-batches-bin/link/evil': b'x',
    }  # fmt: skip
    publish('cifar10', {'cifar-10-binary.tar.gz': tar(hostile | cifar_members(cifar))})
    write_tfds.prepare('cifar10', tmp_path / 'a' / 'b' / 'root')
    assert list(pathlib.Path(tmp_path).rglob('evil')) == []
    assert sorted(path.name for path in (tmp_path / 'a' / 'b').iterdir()) == ['root']


FOLDER = 'cifar-10-batches-bin'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {f'{FOLDER}/data_batch_3.bin': b'\x0a' + b'x' * 3072},
            r'data_batch_3\.bin\): label 10 of image 0 is not in 0\.\.9',
        ),
        (
            {f'{FOLDER}/data_batch_3.bin': b'\x01' + b'x' * 3071},
            'expected rows of 3073 bytes, got 3072 bytes',
        ),
        ({f'{FOLDER}/data_batch_3.bin': b''}, 'expected rows of 3073 bytes'),
        ({f'{FOLDER}/data_batch_3.bin': None}, r'data_batch_3\.bin is not in it'),
        (
            {f'{FOLDER}/data_batch_3.bin': None, link(f'{FOLDER}/data_batch_3.bin', '/etc/passwd'): b''},
            'is not in it',
        ),
    ],
)
def test_archives_that_are_not_what_they_should_be(change, message, publish, cifar, tmp_path):
    members = {
        name: content for name, content in (cifar_members(cifar) | change).items() if content is not None
    }
    publish('cifar10', {'cifar-10-binary.tar.gz': tar(members)})
    with pytest.raises(UserError, match=message) as error:
        write_tfds.prepare('cifar10', tmp_path / 'root')
    assert '\n' not in str(error.value)
    assert (
        not (tmp_path / 'root' / 'cifar10').exists() or list((tmp_path / 'root' / 'cifar10').iterdir()) == []
    )


def test_a_truncated_archive(publish, cifar, tmp_path):
    publish('cifar10', {'cifar-10-binary.tar.gz': tar(cifar_members(cifar))[:-5000]})
    with pytest.raises(UserError, match='truncated or not a gzipped tar'):
        write_tfds.prepare('cifar10', tmp_path / 'root')


def test_sets_of_tfds_without_tensorflow(tmp_path):
    """Where TFDS's code for a set yields arrays, they are encoded here."""
    import tensorflow_datasets as tfds

    given = tiny_sets.arrays((6, 5, 3))

    class TinyTestSet(tfds.core.GeneratorBasedBuilder):
        """A set of another's making."""

        VERSION = tfds.core.Version('1.0.0')

        def _info(self):
            features = {
                'picture': tfds.features.Image(shape=(None, None, 3)),
                'kind': tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {split: self._generate_examples(split) for split in given}

        def _generate_examples(self, split):
            for i, (image, label) in enumerate(zip(*given[split], strict=True)):
                yield i, {'picture': image, 'kind': label}

    images = data.load(config(name='tiny_test_set', data_dir=tmp_path, download=True), 'train')
    assert as_set(images.images, images.labels) == as_set(*given['train'])


def load_all(root, name='cifar10'):
    return {split: data.load(config(name=name, data_dir=root), split) for split in ('train', 'test')}


def run(*arguments):
    return cli.guarded(prepare.main, ['prepare', *map(str, arguments)])


@pytest.mark.parametrize('format', ['array_record', 'tfrecord'])
@pytest.mark.parametrize('place', ['torch', 'folder', 'tfds', 'tfrecord'])
def test_from_every_source(place, format, cifar, cifar_places, tmp_path, capsys):
    assert run('cifar10', '--from', cifar_places[place], '--data_dir', tmp_path, '--format', format) == 0
    assert f'cifar10: ready in {tmp_path}/cifar10/3.0.2' in capsys.readouterr().out
    assert {path.name.split('.')[1].split('-')[0] for path in tmp_path.glob('cifar10/3.0.2/*-of-*')} == {
        format
    }
    for split, images in load_all(tmp_path).items():
        assert as_set(images.images, images.labels) == as_set(*cifar[split])
        assert images.class_names == tiny_sets.CIFAR10
    if format == 'array_record':
        _, examples = official_reader('cifar10', tmp_path, 'test')
        assert as_set([e['image'] for e in examples], [e['label'] for e in examples]) == as_set(
            *cifar['test']
        )
    assert {path.name for path in tmp_path.iterdir()} <= {'cifar10', 'downloads', 'cache'}


def test_cifar100_from_pickles_keeps_its_coarse_labels(tmp_path):
    given = tiny_sets.arrays(classes=100, counts={'train': 100, 'test': 100})
    tiny_sets.write_cifar100(given, tmp_path / 'torch', [f'fine_{i}' for i in range(100)])
    assert run('cifar100', '--from', tmp_path / 'torch', '--data_dir', tmp_path / 'new') == 0
    builder, examples = official_reader('cifar100', tmp_path / 'new', 'test')
    assert as_set([e['image'] for e in examples], [e['label'] for e in examples]) == as_set(*given['test'])
    assert all(e['coarse_label'] == e['label'] // 5 for e in examples)
    assert builder.info.features['label'].names[7] == 'fine_7'


@pytest.mark.parametrize('format', ['array_record', 'tfrecord'])
def test_a_folder_of_ones_own(format, tmp_path):
    """Images of different sizes; a grey one among coloured ones becomes coloured."""
    for name in ('Train/bee', 'Train/ant', 'Test/bee', 'Test/ant'):
        (tmp_path / 'insects' / name).mkdir(parents=True)
        for i in range(3):
            Image.new('L' if name == 'Train/bee' and i else 'RGB', (4 + i, 5)).save(
                tmp_path / 'insects' / name / f'{i}.png'
            )
    assert (
        run('insects', '--from', tmp_path / 'insects', '--data_dir', tmp_path / 'new', '--format', format)
        == 0
    )
    images = data.load(config(name='insects', data_dir=tmp_path / 'new', image_size=4), 'test')
    assert images.class_names == ('ant', 'bee')
    assert np.bincount(images.labels).tolist() == [3, 3]
    if format == 'array_record':
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(tmp_path / 'new' / 'insects' / '1.0.0')
        assert builder.info.supervised_keys == ('image', 'label')
        assert len(builder.as_data_source('train')) == 6


def test_what_prepare_refuses(cifar_places, tmp_path, capsys):
    root = tmp_path / 'new'
    assert run('cifar10', '--from', cifar_places['torch'], '--data_dir', root) == 0
    assert run('cifar10', '--data_dir', root) == 0  # there already: nothing is downloaded
    capsys.readouterr()
    for arguments, message in (
        (['cifar10', '--from', cifar_places['torch']], 'cifar10/3.0.2 exists; choose another --data_dir'),
        (['cifar10', '--from', cifar_places['torch'], '--format', 'tfrecord'], 'exists; choose another'),
        (['cifar10', '--from', cifar_places['tfds']], 'exists; choose another'),
        (
            ['cifar10', '--format', 'tfrecord'],
            'array_record; to have it as tfrecord too, run `python -m train',
        ),
        (['cifar100', '--from', cifar_places['torch']], '(contains cifar10); point --from to'),
        (['cifar100', '--from', cifar_places['folder'] / 'cifar10'], 'a NAME of your own'),
        (
            ['two words', '--from', cifar_places['folder'] / 'cifar10'],
            'letters, digits and _, to begin with a letter',
        ),
    ):
        assert run(*arguments, '--data_dir', root) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1
        assert message in error
