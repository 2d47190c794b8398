"""PyTorch's data sets read by us, ours read by PyTorch."""

import numpy as np
import pytest
import tiny_sets
import torch
from PIL import Image
from tiny_sets import as_set, config
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from flaxnets.errors import UserError
from train import data

IMAGES, LABELS = tiny_sets.arrays((8, 6, 3), counts={'train': 30})['train']


class Items(Dataset):
    """Hands out each image as `form` shapes it."""

    classes = tuple('abcdefghij')

    def __init__(self, form, images=IMAGES):
        self.form = form
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.form(self.images[i]), int(LABELS[i])


def first(image):
    return torch.tensor(image).permute(2, 0, 1)


FORMS = {
    'PIL': Image.fromarray,
    'array': lambda image: image,
    'array, channels first': lambda image: image.transpose(2, 0, 1),
    'float array': lambda image: image / np.float32(255),
    'tensor': first,
    'tensor, channels last': torch.tensor,
    'ToTensor': lambda image: first(image) / 255,
    'half ToTensor': lambda image: (first(image) / 255).double(),
    'long tensor': lambda image: first(image).long(),
}


@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_item(form):
    images = data.from_torch(Items(FORMS[form]))
    np.testing.assert_array_equal(images.images, IMAGES)
    np.testing.assert_array_equal(images.labels, LABELS)
    assert images.class_names == Items.classes


@pytest.mark.parametrize(
    'form', [torch.tensor, Image.fromarray, lambda image: torch.tensor(image)[None] / 255]
)
def test_grey_images(form):
    grey = IMAGES[..., 0]
    np.testing.assert_array_equal(data.from_torch(Items(form, grey)).images[..., 0], grey)


def test_an_image_3_pixels_high_and_wide():
    small = IMAGES[:, :3, :3]
    np.testing.assert_array_equal(data.from_torch(Items(first, small)).images, small)
    np.testing.assert_array_equal(data.from_torch(Items(lambda image: image, small)).images, small)
    turned = Items(lambda image: image.transpose(2, 0, 1), small)
    np.testing.assert_array_equal(data.from_torch(turned, channels='first').images, small)


def test_dictionaries_and_our_own_sets():
    own = data.load(config(), 'test')
    again = data.from_torch(own)
    assert again.fingerprint == own.fingerprint


@pytest.mark.filterwarnings('ignore:os.fork')  # JAX runs in this process; the workers do not touch it
@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_is_read_in_order_and_whole(workers):
    loader = DataLoader(
        Items(FORMS['ToTensor']), batch_size=7, shuffle=True, drop_last=True, num_workers=workers
    )
    images = data.from_torch(loader, name='mine', split='test')
    np.testing.assert_array_equal(images.images, IMAGES)
    np.testing.assert_array_equal(images.labels, LABELS)
    assert (images.name, images.split, images.class_names) == ('mine', 'test', Items.classes)


def test_a_loaders_subset_and_collation_count():
    chosen = [3, 1, 20]
    for loader in (
        DataLoader(Subset(Items(first), chosen), batch_size=2),
        DataLoader(Items(first), sampler=torch.utils.data.SubsetRandomSampler(chosen)),
        DataLoader(
            Subset(Items(Image.fromarray), chosen), collate_fn=lambda items: tuple(zip(*items, strict=True))
        ),
    ):
        images = data.from_torch(loader)
        assert as_set(images.images, images.labels) == as_set(IMAGES[chosen], LABELS[chosen])
        assert images.class_names == Items.classes


def test_an_iterable_data_set_needs_a_loader():
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(IMAGES, LABELS.tolist(), strict=True)

    with pytest.raises(UserError, match='wrap an iterable data set in a DataLoader'):
        data.from_torch(Stream())
    for batch_size in (4, None):
        images = data.from_torch(DataLoader(Stream(), batch_size=batch_size))
        np.testing.assert_array_equal(images.images, IMAGES)
    assert images.class_names == tuple('0123456789')


def test_sizes_and_names():
    images = data.from_torch(Items(first), image_size=(4, 5), class_names=[f'class {i}' for i in range(12)])
    assert images.images.shape == (30, 4, 5, 3)
    assert len(images.class_names) == 12


class Labelled(Items):
    def __init__(self, label):
        super().__init__(first)
        self.label = label

    def __getitem__(self, i):
        return self.form(self.images[i]), self.label


@pytest.mark.parametrize(
    ('dataset', 'message'),
    [
        (Items(lambda image: first(image) / 128 - 1), r'uint8 or floats in \[0, 1\].*leave Normalize out'),
        (Items(lambda image: np.zeros((8, 6, 4), np.uint8)), r'expected images .*got \(8, 6, 4\)'),
        (Items(lambda image: np.zeros((8, 6), complex)), 'got complex128'),
        (Items(lambda image: image[: image[0, 0, 0] % 5 + 1]), 'bring all to one'),
        (Labelled(0.5), 'expected an integer label, got float64'),
        (Labelled(10), r'label 10 of image 0 is not in 0\.\.9'),
        (Labelled(torch.eye(10)[2]), 'expected an integer label'),
        ([1, 2], 'expected items .*got int'),
        (3, 'expected a map-style Dataset or a DataLoader, got int'),
        ([], 'expected at least 1 images'),
    ],
)
def test_what_is_refused(dataset, message):
    with pytest.raises(UserError, match=message) as error:
        data.from_torch(dataset)
    assert '\n' not in str(error.value)


@pytest.mark.filterwarnings('ignore:os.fork')  # JAX runs in this process; the workers do not touch it
@pytest.mark.parametrize('workers', [0, 2])
def test_our_sets_in_a_torch_loader(workers, cifar, cifar_places):
    images = data.load(config(name='cifar10', data_dir=cifar_places['torch']), 'train')
    loader = DataLoader(images, batch_size=8, shuffle=True, num_workers=workers)
    batches = list(loader)
    assert batches[0]['image'].shape == (8, 32, 32, 3)
    assert batches[0]['image'].dtype == torch.uint8
    assert batches[0]['label'].dtype == torch.int64
    seen = (
        np.concatenate([b['image'].numpy() for b in batches]),
        np.concatenate([b['label'].numpy() for b in batches]),
    )
    assert as_set(*seen) == as_set(*cifar['train'])
