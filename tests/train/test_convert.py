"""What PyTorch trained goes on here: files to runs and back, moments, new heads, frozen parts."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import flaxnets
import train
from flaxnets import UserError, interop, registry
from flaxnets.interop import optimizer_state, renames
from flaxnets.interop.matching import Match
from flaxnets.interop.model_card import ModelCard
from flaxnets.layers import candidates
from train import build, cli, config_flags, convert, data, evaluate, optim, report, state
from train import config as options
from train.checkpointing import init_from, resume
from train.checkpointing.checkpoints import Checkpoints
from train.reproduction import records
from train.step import EVALUATION_KEY, STREAMS

torch = pytest.importorskip('torch')
import runs  # noqa: E402
from twins import Pair, apply  # noqa: E402

from train.torch_reference import networks  # noqa: E402

BRANCHING = {'width': 4, 'num_neighbors': 4, 'num_candidates': 36}
# Document -> (side of the images, model, options).
DOCUMENTS = {
    '000': (16, 'branching_attn', BRANCHING),
    '001': (32, 'block_cnn', {'blocks': 1, 'batch_norm': True, 'width': 4, 'hidden': 20}),
    '002': (8, 'expert_cnn', {'blocks': 1, 'width': 8, 'reduction': 4}),
    '003 vit': (16, 'vit', {'blocks': 1, 'heads': 2, 'width': 8}),
    '003 profiled': (16, 'profiled_cnn', {'widths': (4, 4, 8, 8, 8), 'hidden': (16, 16)}),
    '003 vgg16': (32, 'vgg16', {'widths': (8,) * 5, 'hidden': (16, 16), 'pooled': 1, 'dropout': (0.0, 0.0)}),
    '004 mlp': (8, 'mlp', {'hidden': (20, 20)}),
    '004 cnn': (8, 'mnist_cnn', {'widths': (4, 4, 8), 'residual': 1, 'batch_norm': True}),
}

# Compared by accuracy in float32 only, to save time; test_interop.py compares their logits in float64.
IN_FLOAT32 = ['003 profiled', '003 vgg16', '004 mlp']


def setup(tmp_path, document, precision='float64', **changes):
    """The config of a document's network on the digits."""
    side, name, chosen = DOCUMENTS[document]
    config = runs.digits(tmp_path, precision=precision, data__limit=0, data__image_size=(side,), **changes)
    config.model = {'name': name, **chosen}
    if name == 'vgg16':
        config.model.num_classes = 10
    return options.validate(config)


def plain_pytorch(config, steps=40):
    """A twin trained as PyTorch code would, with its optimiser."""
    torch.manual_seed(0)
    dtype = {'float64': torch.float64, 'float32': torch.float32}[config.precision]
    images = data.load(config.data, 'train')
    twin = networks.create(config.model.name, **build.arguments(config, images)).to(dtype)
    if config.model.name == 'vgg16':  # from PyTorch's initial values it does not get away in 40 steps
        for parameter in twin.parameters():
            parameter.data *= 6**0.5 if parameter.ndim > 1 else 1
    rule = torch.optim.Adam(twin.parameters(), 0.01)
    inputs, labels = tensors(config, images, dtype)
    for step in range(steps):
        rows = slice(step % 20 * 64, step % 20 * 64 + 64)
        rule.zero_grad()
        torch.nn.functional.cross_entropy(twin(inputs[rows]), labels[rows]).backward()
        rule.step()
    return twin, rule


def tensors(config, images, dtype):
    """A split as PyTorch sees it: normalised NCHW images, labels."""
    pixels = torch.from_numpy(np.array(images.images)).permute(0, 3, 1, 2).to(dtype) / 255
    mean, std = (
        torch.tensor(v, dtype=dtype)[:, None, None]
        for v in (config.data.mean or [0.0], config.data.std or [1.0])
    )
    return (pixels - mean) / std, torch.from_numpy(images.labels).long()


def confusion(config, twin):
    """[true, predicted] of the twin on the test set, with the candidates that flaxnets draws there."""
    images = data.load(config.data, 'test')
    inputs, labels = tensors(config, images, next(twin.parameters()).dtype)
    cells = np.zeros((10, 10), int)
    twin.eval()
    for index, start in enumerate(range(0, len(labels), config.data.batch_size)):
        rows = slice(start, start + config.data.batch_size)
        pools = drawn(config, index)
        with torch.no_grad():
            logits = twin(inputs[rows], pools) if pools else twin(inputs[rows])
        np.add.at(cells, (labels[rows].numpy(), logits.argmax(1).numpy()), 1)
    return cells


def drawn(config, index):
    if config.model.name != 'branching_attn':
        return []
    key = jax.random.fold_in(
        jax.random.fold_in(jax.random.key(EVALUATION_KEY), index), STREAMS.index('candidates')
    )
    rngs = nnx.Rngs(candidates=key)
    return [torch.tensor(np.asarray(candidates.draw(64, 36, rngs))).long() for _ in range(2)]


@pytest.mark.parametrize('document', sorted(set(DOCUMENTS) - set(IN_FLOAT32)))
def test_a_pytorch_checkpoint_evaluates_to_the_image(document, tmp_path):
    config = setup(tmp_path, document)
    twin, rule = plain_pytorch(config)
    content = {'model_state_dict': twin.state_dict(), 'optimizer_state_dict': rule.state_dict(), 'epoch': 2}
    torch.save(content, tmp_path / 'model.pt')
    report = convert.convert(tmp_path / 'model.pt', tmp_path / 'run', config)
    assert 'values loaded' in report
    scores = evaluate.evaluate(tmp_path / 'run')
    with jax.enable_x64(True):
        expected = confusion(config, twin)
    assert expected.trace() > 60  # of 360: more than chance, 36
    np.testing.assert_array_equal(scores['confusion'], expected)


@pytest.mark.parametrize('document', IN_FLOAT32)
def test_in_float32_to_three_tenths_of_a_point(document, tmp_path):
    config = setup(tmp_path, document, precision='float32')
    twin, _ = plain_pytorch(config)
    torch.save(twin.state_dict(), tmp_path / 'model.pt')
    convert.convert(tmp_path / 'model.pt', tmp_path / 'run', config)
    scores = evaluate.evaluate(tmp_path / 'run')
    accuracy = 100 * confusion(config, twin).trace() / 360
    assert accuracy > 16
    assert abs(scores['accuracy'] - accuracy) <= 0.3


@pytest.fixture
def mlp(tmp_path):
    """A config of a small model, and what PyTorch saved of it."""
    config = setup(tmp_path, '004 mlp', precision='float32')
    twin, rule = plain_pytorch(config, steps=3)
    torch.save({'state_dict': twin.state_dict(), 'optimizer': rule.state_dict()}, tmp_path / 'model.pt')
    return config, twin, rule


def params_of(workdir):
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        return checkpoints.values(checkpoints.find('last'))
    finally:
        checkpoints.close()


def test_weights_go_round(mlp, tmp_path):
    """.pt to a run to safetensors to a run to .pt: the same values, and a card on the way."""
    config, twin, _ = mlp
    convert.convert(tmp_path / 'model.pt', tmp_path / 'run', config)
    convert.convert(tmp_path / 'run', tmp_path / 'm.safetensors')
    card = interop.load(tmp_path / 'm.safetensors').card
    assert card.architecture == 'mlp'
    assert card.preprocessing['class_names'] == tuple('0123456789')
    assert card.preprocessing['size'] == (8, 8)
    assert card.parameters == sum(p.numel() for p in twin.parameters())
    convert.convert(tmp_path / 'm.safetensors', tmp_path / 'again')
    convert.convert(tmp_path / 'again', tmp_path / 'm.pt')
    loaded = torch.load(tmp_path / 'm.pt', weights_only=True)
    twin.load_state_dict(loaded, strict=True)
    for key, value in torch.load(tmp_path / 'model.pt', weights_only=True)['state_dict'].items():
        assert torch.equal(loaded[key], value)
    model = interop.load(tmp_path / 'm.pt').create_model()
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    expected = twin(torch.from_numpy(images.transpose(0, 3, 1, 2))).detach()
    np.testing.assert_allclose(model(jnp.asarray(images)), expected, atol=1e-5)


def test_a_run_starts_from_weights_and_resumes_without_them(mlp, tmp_path, capsys):
    config, twin, _ = mlp
    config.epochs = 1
    config.optimizer.learning_rate = 0.0
    theirs = {key.replace('hidden', 'body.fc'): value for key, value in twin.state_dict().items()}
    torch.save(theirs, tmp_path / 'model.pt')
    config.init_from = {'path': str(tmp_path / 'model.pt'), 'rename': r'body\.fc(\d)=hidden\1'}
    train.run(config, tmp_path / 'run')
    assert 'model.pt (PyTorch, weights only): 6 values loaded' in capsys.readouterr().out
    values = params_of(tmp_path / 'run')
    np.testing.assert_array_equal(values['output/bias'], twin.output.bias.detach())
    (tmp_path / 'model.pt').unlink()
    evaluate.evaluate(tmp_path / 'run')
    config.epochs = 2
    train.run(config, tmp_path / 'run')
    assert 'resumed at step' in capsys.readouterr().out


def test_a_new_head_on_a_frozen_trunk(mlp, tmp_path, capsys):
    """Weights of a run, with five classes left out of its ten."""
    config, _, _ = mlp
    convert.convert(tmp_path / 'model.pt', tmp_path / 'trunk', config)
    before = params_of(tmp_path / 'trunk')
    config.epochs = 1
    config.model.num_classes = 12
    config.init_from = {'path': str(tmp_path / 'trunk'), 'skip': 'output', 'optimizer': False}
    config.optimizer.freeze = 'hidden'
    config.optimizer.weight_decay = 0.1
    train.run(config, tmp_path / 'run')
    assert 'fresh output/bias, output/kernel' in capsys.readouterr().out
    after = params_of(tmp_path / 'run')
    assert after['output/kernel'].shape == (20, 12)
    for key in before:
        if key.startswith('hidden'):
            np.testing.assert_array_equal(after[key], before[key])


def test_published_keys_name_what_is_frozen():
    config = options.defaults()
    config.model = {'name': 'vgg16', 'widths': (2, 2, 2, 2, 2), 'hidden': (3, 3), 'pooled': 1}
    model = nnx.eval_shape(
        lambda: flaxnets.create_model('vgg16', rngs=nnx.Rngs(0), widths=(2,) * 5, hidden=(3, 3), pooled=1)
    )
    for pattern, count in (('features', 26), ('features.0', 2), ('stages/0/0', 2), (r'classifier\.[03]', 4)):
        config.optimizer.freeze = pattern
        assert len(build.frozen_parameters(config, model)) == count
    for pattern, message in (('.*', 'names all parameters'), ('feature', 'try features')):
        config.optimizer.freeze = pattern
        with pytest.raises(UserError, match=message):
            build.frozen_parameters(config, model)


@pytest.mark.parametrize(
    ('changes', 'make'),
    [
        ({'name': 'adam'}, lambda p: torch.optim.Adam(p, 1e-3)),
        ({'name': 'adamw', 'weight_decay': 0.1}, lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1)),
        ({'name': 'sgd', 'momentum': 0.9}, lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)),
    ],
)
@pytest.mark.parametrize('named', [False, True])
def test_moments_continue_where_pytorch_stopped(changes, make, named, tmp_path):
    """Three steps in PyTorch, three more in both."""
    with jax.enable_x64(True):
        pair = Pair('convnn_attn')
        theirs = make(list(pair.twin.named_parameters()) if named else pair.twin.parameters())
        for _ in range(3):
            step_of(pair, theirs)
        content = {'model': pair.twin.state_dict(), 'optimizer': theirs.state_dict()}
        torch.save(content, tmp_path / 'a.pt')

        weights = init_from.read(tmp_path / 'a.pt')
        match = weights.match(pair.model)
        structure, *parts = state.split(pair.model)
        params, stats = weights.values(pair.model, match, tuple(parts))
        config = options.defaults()
        config.optimizer.update(changes | {'learning_rate': 1e-3})
        fixed = state.without_gradient(pair.model)
        rule = optim.create(options.validate(config), steps_per_epoch=2, fixed=fixed)
        memory, steps = weights.moments(pair.model, match, rule.init(params))
        assert steps == (0 if changes['name'] == 'sgd' else 3)

        @jax.jit
        def gradient(params, images, labels, pools):
            def loss(params):
                logits = apply(structure.merge(params, stats), images, pools, training=True)
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            return jax.grad(loss)(params)

        for _ in range(3):
            batch = step_of(pair, theirs)
            updates, memory = rule.update(gradient(params, *batch), memory, params)
            params = optax.apply_updates(params, updates)
        ours = interop.to_torch(structure.merge(params, stats), unused=False)
        for key, value in ours.items():
            np.testing.assert_allclose(value, pair.twin.state_dict()[key], rtol=0, atol=1e-10)


def step_of(pair, rule):
    """A step of PyTorch; returns its batch."""
    images, labels, pools = pair.batch()
    rule.zero_grad()
    logits = pair.twin_logits(images, pools, training=True)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    rule.step()
    return images, labels, pools


@pytest.mark.parametrize(
    ('steps', 'epochs'), [(3, [1, 2, 3]), (46, [3])], ids=['inside an epoch', 'between two']
)
def test_a_converted_run_counts_on(steps, epochs, tmp_path):
    """PyTorch's code saves at the end of an epoch, of 23 steps here; it may be the last one."""
    config = setup(tmp_path, '004 mlp', precision='float32')
    twin, rule = plain_pytorch(config, steps)
    torch.save({'state_dict': twin.state_dict(), 'optimizer': rule.state_dict()}, tmp_path / 'model.pt')
    config.epochs = 2
    convert.convert(tmp_path / 'model.pt', tmp_path / 'run', config, optimizer=True)
    if steps == 46:
        with pytest.raises(UserError, match=r'config\.epochs: expected more than 2.* converted at step 46'):
            train.run(config, tmp_path / 'run')
    config.epochs = 3
    summary = train.run(config, tmp_path / 'run')
    assert summary['steps'] == 3 * 23
    assert summary['test_accuracy'] > 50
    rows = [json.loads(row) for row in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [row['epoch'] for row in rows if 'epoch' in row] == epochs


def test_moments_beside_the_weights_of_a_loss(mlp, tmp_path):
    """As Lightning saves them: a prefix, the optimiser in a list, and the loss's own weights in between."""
    config, twin, rule = mlp
    weights = {f'model.{key}': value for key, value in twin.state_dict().items()}
    content = {
        'state_dict': {'loss.weight': torch.ones(3), **weights},
        'optimizer_states': [rule.state_dict()],
    }
    torch.save(content, tmp_path / 'a.ckpt')
    given = init_from.read(tmp_path / 'a.ckpt')
    model = build.abstract_model(config, data.load(config.data, 'test'))
    match = given.match(model, skip='loss')
    fresh = optax.scale_by_adam().init({'output/bias': jnp.zeros(10)})
    moved, steps = given.moments(model, match, fresh)
    assert steps == 3
    expected = rule.state_dict()['state'][5]['exp_avg']
    np.testing.assert_array_equal(moved.mu['output/bias'], expected)


def torch_state(change):
    state = {
        i: {'step': torch.tensor(3.0), 'exp_avg': torch.zeros(2), 'exp_avg_sq': torch.zeros(2)}
        for i in range(2)
    }
    content = {'state': state, 'param_groups': [{'params': [0, 1]}]}
    change(content)
    return content


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.update(state={}), 'no moments, the optimizer of the config needs exp_avg'),
        (lambda c: c['state'][0].update(step=torch.tensor(4.0)), r'as many updates.*\[3, 4\]'),
        (lambda c: c['state'][0].update(exp_avg=torch.zeros(3)), r'exp_avg 0 to be of a, \(2,\), got \(3,\)'),
        (lambda c: c['state'][0].update(max_exp_avg_sq=torch.zeros(2)), 'AMSGrad'),
        (lambda c: c['state'][1].update(exp_avg=torch.tensor([0, np.nan])), 'exp_avg of b contains NaN'),
        (
            lambda c: c.update(param_groups=[{'params': [0, 1], 'param_names': ['a', 'z']}]),
            "'z', which is not",
        ),
        (lambda c: c.update(param_groups=[{'params': [0]}]), 'of 2 parameters, got 1'),
        (lambda c: c.update(param_groups=[{'params': [0]}, {'params': [1]}]), 'one group'),
    ],
)
def test_moments_that_cannot_be_placed(change, message):
    given = {'a': np.zeros(2), 'b': np.zeros(2), 'n.running_mean': np.zeros(2)}
    match = Match(given, [], [], frozenset(), [], renames.rules(given, ()))
    fresh = optax.scale_by_adam().init({'a': jnp.zeros(2)})
    with pytest.raises(UserError, match=message):
        optimizer_state.take_over(fresh, torch_state(change), nnx.Module(), given, match)


def test_the_command_line(mlp, tmp_path, capsys, monkeypatch):
    def command(*arguments):
        code = cli.guarded(convert.main, ['convert', *map(str, arguments)])
        captured = capsys.readouterr()
        assert captured.err.count('\n') == (1 if code else 0)
        return captured.err if code else captured.out

    monkeypatch.setenv('FLAXNETS_CACHE', str(tmp_path / 'cache'))
    settings = ['--config', runs.ROOT / 'configs/mnist.py:digits', '--config.model.name=mlp']
    settings += ['--config.model.hidden=(20, 20)', '--config.data.image_size=(8,)']
    out = command('--from', tmp_path / 'model.pt', '--to', tmp_path / 'run', *settings)
    assert re.search(r'hidden1\.weight +\(20, 64\) +hidden/0/kernel +\(64, 20\)', out)
    assert command('--from', tmp_path / 'run', '--to', tmp_path / 'm.safetensors').endswith(' parameters\n')
    renamed = {f'net_{key}': value for key, value in mlp[1].state_dict().items()}
    torch.save(renamed, tmp_path / 'renamed.pt')
    command('--from', tmp_path / 'renamed.pt', '--to', tmp_path / 'back.pt', '--rename', '^net_=', *settings)
    assert torch.load(tmp_path / 'back.pt', weights_only=True).keys() == mlp[1].state_dict().keys()
    assert 'features.28.weight' in command('--table', 'vgg16')
    for arguments, message in (
        (('--from', 'x.pt'), 'expected --from PATH and --to PATH'),
        (('--from', 'x.pt', '--to', 'y.pt'), 'No such file'),
        (('--from', tmp_path / 'model.pt', '--to', 'y.pt'), 'no model card came with it'),
        (('--from', tmp_path / 'run', '--to', tmp_path / 'run'), 'run already; choose another folder'),
        (('--from', tmp_path, '--to', 'y.pt'), 'expected a run'),
        (('--from', 'x.pt', '--to', 'y.pt', '--frm'), "'--frm' is not expected"),
        (('--from', 'x.pt', '--to', 'y.pt', '--optimizer'), 'expected --to with a folder'),
        (('--from', tmp_path / 'run', '--to', tmp_path / 'z', '--optimizer'), 'got none'),
        (('--from', 'x.pt', '--to', 'y.ckpt'), 'for a folder of this name write y.ckpt/'),
        (('--from', 'x.pt', '--to', 'y.pt', '--classes', '1'), '--classes: expected their number'),
        (('--table', 'vgg'), 'Did you mean vgg'),
    ):
        assert message in command(*arguments)
    assert not (tmp_path / 'z').exists()


def describe(name, **changes):
    """A config whose images are nowhere."""
    config = options.defaults()
    config.data.update({'name': name, 'data_dir': '/nowhere', 'download': False})
    config.model = {'name': 'mlp', 'hidden': (4, 4)}
    for key, value in changes.items():
        config.data[key] = value
    return config


def state_dict(inputs, classes=10):
    sizes = {'hidden1': (4, inputs), 'hidden2': (4, 4), 'output': (classes, 4)}
    return {f'{k}.weight': torch.ones(v) for k, v in sizes.items()} | {
        f'{k}.bias': torch.ones(v[0]) for k, v in sizes.items()
    }


@pytest.mark.parametrize('to', ['m.safetensors', 'run'])
@pytest.mark.parametrize(
    ('config', 'classes', 'inputs', 'names'),
    [
        (describe('cifar10'), (), 3072, ('airplane', 'automobile', 'bird')),
        (describe('mnist', image_size=(8,)), (), 64, ('0', '1', '2')),
        (describe('cifar10', classes=('cat', 3 + 2)), (), 3072, ('cat', 'dog')),
        (describe('cifar100'), (), 3072, ('0', '1', '2')),
        (
            describe('flowers', image_size=(8,), channels=1),
            ('rose', 'lily', 'iris'),
            64,
            ('rose', 'lily', 'iris'),
        ),
        (describe('flowers', image_size=(8,), channels=1), 7, 64, ('0', '1', '2')),
    ],
)
def test_no_images_are_needed(config, classes, inputs, names, to, tmp_path):
    """How many classes the data set is known to have, or --classes; how large the config says images are."""
    count = {'cifar100': 100, 'flowers': classes if isinstance(classes, int) else 3}.get(config.data.name, 10)
    count = len(config.data.classes) or count
    torch.save(state_dict(inputs, count), tmp_path / 'a.pt')
    convert.convert(tmp_path / 'a.pt', tmp_path / to, config, classes=classes)
    card = init_from.read(tmp_path / to, 'last').card
    assert card.preprocessing['class_names'][:3] == names
    assert len(card.preprocessing['class_names']) == count
    assert card.options['num_classes'] == count


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            describe('flowers', image_size=(8,), channels=1),
            r'--classes: expected the number of classes of flowers',
        ),
        (describe('flowers', classes=('a', 'b')), '--classes: expected the number of classes of flowers'),
    ],
)
def test_what_nothing_says_is_asked_for(config, message, tmp_path, monkeypatch):
    torch.save(state_dict(64), tmp_path / 'a.pt')
    # As on the command line, whose flags `train` would not understand.
    monkeypatch.setattr(sys, 'argv', ['convert', '--from', 'a.pt', '--config', 'configs/mnist.py'])
    with pytest.raises(UserError, match=message) as error:
        convert.convert(tmp_path / 'a.pt', tmp_path / 'b.pt', config)
    assert 'python -m train' not in str(error.value)
    with pytest.raises(UserError, match=r'data\.image_size: expected one'):
        convert.convert(tmp_path / 'a.pt', tmp_path / 'b.pt', describe('flowers'), classes=5)


def test_between_files_keys_are_dropped_renamed_and_completed(tmp_path):
    """What the published code never uses is written as zeros, as the file has it, or not at all."""
    config = describe('cifar10')
    config.model = {'name': 'convnn_all', 'width': 4}
    twin = networks.create('convnn_all', num_classes=10, image_shape=(32, 32, 3), width=4)
    weights = twin.state_dict()
    dead = [key for key in weights if 'pointwise_conv' in key]
    theirs = {
        k.replace('features', 'body'): v for k, v in weights.items() if not k.startswith('features.2.po')
    }
    torch.save(theirs | {'loss.weight': torch.ones(3)}, tmp_path / 'a.pt')

    def converted(**options):
        report = convert.convert(
            tmp_path / 'a.pt', tmp_path / 'b.pt', config, skip='loss', rename='body=features', **options
        )
        return report, torch.load(tmp_path / 'b.pt', weights_only=True)

    report, written = converted()
    assert (
        'with 4 keys that the published code has and never uses, such as features.0.pointwise_conv' in report
    )
    assert torch.equal(written[dead[0]], weights[dead[0]])
    assert not written[dead[2]].any()
    twin.load_state_dict(written, strict=True)
    report, written = converted(without_unused=True)
    assert 'never uses' not in report
    assert written.keys() == weights.keys() - set(dead)
    with pytest.raises(UserError, match=r'--skip: expected --to a folder; a file cannot leave head/kernel'):
        convert.convert(
            tmp_path / 'a.pt', tmp_path / 'b.pt', config, skip='loss|classifier', rename='body=features'
        )


ROW_MEAN = 'examples.row_mean:row_mean'


def test_a_model_of_ones_own_is_exported_by_our_own_names(tmp_path, monkeypatch):
    config = runs.digits(tmp_path, epochs=1)
    config.model = {'name': ROW_MEAN, 'width': 4, 'num_layers': 1}
    summary = train.run(config, tmp_path / 'run')
    with pytest.raises(
        UserError, match=r'the layer RowMean has no PyTorch map; give one.*or export by our own'
    ):
        convert.convert(tmp_path / 'run', tmp_path / 'm.pt')
    report = convert.convert(tmp_path / 'run', tmp_path / 'm.safetensors')
    assert 'the layer RowMean has no PyTorch map: written by our own names' in report
    convert.convert(tmp_path / 'm.safetensors', tmp_path / 'again')
    assert evaluate.evaluate(tmp_path / 'again')['accuracy'] == pytest.approx(summary['test_accuracy'])
    monkeypatch.setattr(registry, 'NAMED', set())  # as in another process, where nobody has named it yet
    with pytest.raises(UserError, match=f'with --model {ROW_MEAN}'):
        train.load(tmp_path / 'run')
    assert train.load(tmp_path / 'run', model=ROW_MEAN).class_names[0] == '0'


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that says when it is imported, and a received run and file that name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, 'NAMED', set())
    monkeypatch.delitem(sys.modules, 'evil', raising=False)
    (tmp_path / 'evil.py').write_text('import pathlib\npathlib.Path("ran").touch()\ndef build(): ...\n')
    config = describe('cifar10')
    config.model = {'name': 'evil:build'}
    card = ModelCard('evil:build', config=config.to_dict())
    interop.save('evil.safetensors', {'a.weight': np.ones(3, np.float32)}, card)
    (tmp_path / 'received').mkdir()
    (tmp_path / 'received' / 'config.json').write_text(config.to_json())
    return tmp_path / 'ran'


@pytest.mark.parametrize(
    'act',
    [
        lambda: interop.load('evil.safetensors').create_model(),
        lambda: convert.convert('evil.safetensors', 'out'),
        lambda: convert.convert('evil.safetensors', 'out.safetensors'),
        lambda: convert.convert('received', 'out'),
        lambda: evaluate.evaluate('received'),
        lambda: report.rebuild('received'),
        lambda: train.load('evil.safetensors'),
        lambda: train.load('received'),
        lambda: records.material({'model.name': 'evil:build'}),
    ],
)
def test_no_file_makes_code_run(act, evil):
    with pytest.raises(UserError, match=r'evil:build|expected checkpoints|with a model card'):
        act()
    assert not evil.exists()


def test_the_user_may_name_the_code_too(evil):
    with pytest.raises(UserError, match='cifar10 was not found'):
        evaluate.evaluate('received', model='evil:build')
    assert evil.exists()


def test_a_run_of_ones_own_model_continues_where_it_is_named(evil):
    with pytest.raises(UserError, match=r'with --continue as --config\.model\.name=evil:build'):
        config_flags.parse(['train', '--continue', 'received'])
    assert not evil.exists()
    config, _ = config_flags.parse(['train', '--continue', 'received', '--config.model.name=evil:build'])
    assert config.model.name == 'evil:build'


def test_a_run_looked_at_as_a_start_or_compared_runs_no_code(evil, tmp_path):
    with pytest.raises(UserError, match='expected checkpoints'):
        init_from.read('received')
    with pytest.raises(UserError, match='belongs to a run with another config: model'):
        resume.match(tmp_path / 'received', options.validate(describe('cifar10')))
    assert not evil.exists()


def test_options_without_a_path_are_refused():
    for key in ('init_from.skip', 'init_from.rename', 'init_from.optimizer'):
        config = options.defaults()
        config.init_from[key.partition('.')[2]] = key.endswith('optimizer') or 'x'
        with pytest.raises(UserError, match=rf'config\.{key}: expected init_from\.path'):
            options.validate(config)


def test_a_converted_run_continues_from_the_end_of_an_epoch(mlp, tmp_path):
    """When most people save: there are neither sums nor a history then."""
    config, _, _ = mlp
    config.epochs = 2
    content = torch.load(tmp_path / 'model.pt', weights_only=True)
    for moments in content['optimizer']['state'].values():
        moments['step'] = torch.tensor(23.0)
    torch.save(content, tmp_path / 'whole.pt')
    said = convert.convert(tmp_path / 'whole.pt', tmp_path / 'whole', config, optimizer=True)
    assert 'with the moments of 23 updates' in said
    summary = train.run(config, tmp_path / 'whole')
    assert (summary['epochs'], summary['steps'], summary['best_epoch']) == (2, 2 * 23, 2)
