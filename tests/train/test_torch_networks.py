"""The PyTorch twins compute the golden numbers, so that comparing flaxnets with them means something."""

from collections.abc import Collection

import golden_case
import numpy as np
import pytest

torch = pytest.importorskip('torch')
from train.torch_reference import networks  # noqa: E402


def twin(case: golden_case.Case):
    model = networks.create(
        case.name, num_classes=case.classes, image_shape=case.image_shape, **case.data['options']
    ).double()
    named = {name: golden_case.parameter(name, tuple(shape)) for name, shape in case.data['parameters']}
    model.load_state_dict(
        {
            key: torch.from_numpy(np.asarray(named.get(key, value)))
            for key, value in model.state_dict().items()
        }
    )
    assert {name: list(p.shape) for name, p in model.named_parameters()} == dict(case.data['parameters'])
    return model


def optimizer(settings: dict, model):
    settings = dict(settings)
    kind = {'sgd': torch.optim.SGD, 'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[
        settings.pop('name')
    ]
    return kind(model.parameters(), **settings)


def compare(values: dict, expected: dict, *, rounding: Collection[str] = ()) -> None:
    """To 1e-9, relative to the largest of the numbers or, where that is smaller, to 1e-3, as in test_golden.

    A bias before a batch norm has no gradient but the rounding of terms that cancel, about 1e-15, which
    another processor rounds otherwise. Those are `rounding`: after updates by Adam, which divides by the
    gradient's size plus 1e-8, they agree to 1e-7.
    """
    for name, numbers in expected.items():
        if numbers is None:
            assert values[name] is None, name
        else:
            size = max(np.abs(numbers).max(), 1e-3)
            summary = golden_case.summary(values[name].detach().numpy())
            atol = 1e-7 if name in rounding else 1e-9 * size
            np.testing.assert_allclose(summary, numbers, rtol=1e-9, atol=atol, err_msg=name)


@pytest.mark.parametrize('name', golden_case.NAMES)
def test_twin_computes_the_golden_numbers(name):
    torch.set_num_threads(1)
    case = golden_case.Case(name)
    model = twin(case)
    assert sum(p.numel() for p in model.parameters()) == case.data['count']
    update = optimizer(case.data['optimizer'], model)
    steps = case.data['steps']
    rounding: set[str] = set()
    explodes = name == 'mnist_cnn_residual'  # its loss grows beyond what 1e-9 can follow
    for i, (images, labels, pools) in enumerate(case.batches()):
        step = steps[i] if i < len(steps) else case.data['evaluation']
        model.train(labels is not None)
        for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
            dropout.eval()
        inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        logits = model(inputs, [torch.from_numpy(p) for p in pools]) if pools else model(inputs)
        if explodes and i >= 3:
            return
        scale = np.abs(step['logits']).max()
        np.testing.assert_allclose(logits.detach(), step['logits'], rtol=1e-9, atol=1e-9 * scale)
        if labels is None:
            break
        if case.data['softmax_before_cross_entropy']:
            logits = logits.softmax(1)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        np.testing.assert_allclose(loss.item(), step['loss'], rtol=1e-9)
        update.zero_grad()
        loss.backward()
        if i == 0:
            compare({n: p.grad for n, p in model.named_parameters()}, step['gradient_summary'])
            gradients = step['gradient_summary'].items()
            rounding = {n for n, numbers in gradients if numbers and np.abs(numbers).max() < 1e-12}
        update.step()
    compare(dict(model.named_parameters()), case.data['parameter_summary_after'], rounding=rounding)
    compare(dict(model.named_buffers()), case.data['running_statistics_after'])
