"""A config's training step in PyTorch: the same network, images, loss and optimiser, for the benchmark.

Batches are taken from one uint8 tensor on the device and normalised there. Random augmentation is left out,
which favours PyTorch, and the learning rate stays at its peak.
"""

import contextlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from train.config import ConfigDict, model_options
from train.data.imageset import ImageSet
from train.torch_reference import convnn, networks

AUTOCAST = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


class Training:
    """The twin of a config's model with its optimiser.

    Args:
        sets: the images by split.
        published: neighbours are gathered as the published code does it, see `convnn.NearestConv1d.expanded`.
        compiled: by `torch.compile`.
    """

    def __init__(
        self,
        config: ConfigDict,
        sets: dict[str, ImageSet],
        *,
        device: str = 'cpu',
        published: bool = False,
        compiled: bool = False,
    ):
        self.config, self.device = config, torch.device(device)
        train = sets['train']
        given: dict[str, Any] = {'num_classes': len(train.class_names), 'image_shape': train.image_shape}
        network = networks.create(config.model.name, **(given | model_options(config))).to(self.device)
        for module in network.modules():
            if isinstance(module, convnn.NearestConv1d):
                module.expanded = published
        if config.precision == 'float64':
            network = network.double()
        self.optimizer = optimizer(config, network)
        self.model: Any = torch.compile(network) if compiled else network
        self.splits = {split: self._placed(images) for split, images in sets.items()}
        dtype = torch.float64 if config.precision == 'float64' else torch.float32
        channels = train.image_shape[-1]
        self.mean, self.std = (
            torch.tensor(values or (default,) * channels, dtype=dtype, device=self.device)[:, None, None]
            for values, default in ((config.data.mean, 0.0), (config.data.std, 1.0))
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == 'float16')
        self.batch = 0

    def train(self, steps: int) -> None:
        """Makes `steps` updates."""
        self.model.train()
        for _ in range(steps):
            images, labels = self._next('train', self.config.data.batch_size)
            self.optimizer.zero_grad(set_to_none=True)
            with self._precision():
                logits = self.model(images)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            if self.config.loss.softmax_twice:
                logits = logits.softmax(1)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.config.loss.label_smoothing)
            self.scaler.scale(loss).backward()
            if self.config.optimizer.clip_norm:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self._wait()

    def evaluate(self, steps: int) -> None:
        """Loss and correct predictions of `steps` batches."""
        self.model.train(self.config.evaluate_with_batch_statistics)
        size = self.config.data.eval_batch_size or self.config.data.batch_size
        with torch.inference_mode():
            for _ in range(steps):
                images, labels = self._next('test', size)
                with self._precision():
                    logits = self.model(images)
                F.cross_entropy(logits.float(), labels, reduction='sum')
                (logits.argmax(1) == labels).sum()
        self._wait()

    def _next(self, split: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.splits[split]
        rows = (torch.arange(size, device=self.device) + self.batch * size) % len(labels)
        self.batch += 1
        return (images[rows].to(self.mean.dtype) / 255 - self.mean) / self.std, labels[rows]

    def _placed(self, images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(np.ascontiguousarray(images.images.transpose(0, 3, 1, 2)))
        return pixels.to(self.device), torch.from_numpy(images.labels).long().to(self.device)

    def _precision(self) -> Any:
        if self.config.precision not in AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.config.precision])

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def optimizer(config: ConfigDict, network: torch.nn.Module) -> torch.optim.Optimizer:
    """`config.optimizer`; weight decay applies to all parameters."""
    options, params = config.optimizer, network.parameters()
    shared: dict[str, Any] = {'lr': options.learning_rate, 'weight_decay': options.weight_decay}
    if options.name == 'sgd':
        return torch.optim.SGD(params, momentum=options.momentum, nesterov=options.nesterov, **shared)
    kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[options.name]
    return kind(params, betas=(options.b1, options.b2), eps=options.eps, **shared)


def prepare(threads: int) -> None:
    """As many threads as JAX uses, and on a GPU float32 products in TF32, which is JAX's default there."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision('high')
