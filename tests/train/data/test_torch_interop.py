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
    'int16 array': lambda image: image.astype(np.int16),
    'with a gradient': lambda image: (first(image) / 255).requires_grad_(),
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


def test_bfloat16_is_read_as_near_as_it_is():
    images = data.from_torch(Items(lambda image: (first(image) / 255).bfloat16())).images
    assert abs(images.astype(int) - IMAGES).max() <= 1


class Batches:
    """A batch sampler of one's own, in an order of its own."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def samplers():
    from torch.utils.data import BatchSampler, RandomSampler, WeightedRandomSampler

    shuffled = RandomSampler(range(30))
    return {
        'BatchSampler': {'batch_sampler': BatchSampler(shuffled, 7, drop_last=True)},
        'batches of the data set': {'sampler': BatchSampler(shuffled, 7, True), 'batch_size': None},
        'no batches': {'sampler': shuffled, 'batch_size': None},
        'own': {'batch_sampler': Batches(range(20, 30), [3, 1, 2, 0], range(4, 20), [5, 5])},
        'weighted': {'sampler': WeightedRandomSampler([1.0] * 30, 4), 'batch_size': 2},
        'replaced': {'sampler': RandomSampler(range(30), replacement=True, num_samples=5)},
    }


@pytest.mark.parametrize('way', samplers())
def test_no_sampler_loses_images_or_order(way):
    class Lists(Items):
        def __getitem__(self, i):
            if isinstance(i, list):
                return torch.stack([first(self.images[j]) for j in i]), torch.tensor(LABELS[i])
            return super().__getitem__(i)

    images = data.from_torch(DataLoader(Lists(first), **samplers()[way]))
    np.testing.assert_array_equal(images.images, IMAGES)
    np.testing.assert_array_equal(images.labels, LABELS)


def test_a_batch_sampler_that_leaves_images_out_is_said():
    with pytest.warns(RuntimeWarning, match='the batch_sampler gives 3 of 30 images'):
        images = data.from_torch(DataLoader(Items(first), batch_sampler=Batches([5, 9], [2])))
    np.testing.assert_array_equal(images.images, IMAGES[[2, 5, 9]])


def test_an_iterable_data_set_needs_a_loader():
    class Stream(IterableDataset):
        def __iter__(self):
            return zip(IMAGES, LABELS.tolist(), strict=True)

    with pytest.raises(UserError, match='wrap an iterable data set in a DataLoader'):
        data.from_torch(Stream())
    for batches in ({'batch_size': 4, 'drop_last': True}, {'batch_size': None}):
        images = data.from_torch(DataLoader(Stream(), **batches))
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
        (Items(lambda image: first(image).float()), r'got float32 from .*: divide them by 255$'),
        (Items(lambda image: first(image) * 2.0), r'to \d{3}: scale them to \[0, 1\]'),
        (Items(lambda image: np.full((8, 6, 3), np.nan)), 'are all of them finite'),
        (Items(lambda image: image.astype(np.uint16) * 257), r'uint16 from .*16 bits: image // 256\)$'),
        (
            Items(lambda image: image.astype(np.int16) - 128),
            r'int16 from -128 to .*: scale them to 0\.\.255$',
        ),
        (Items(lambda image: np.zeros((8, 6, 4), np.uint8)), r'expected images .*got \(8, 6, 4\)'),
        (Items(lambda image: np.zeros((8, 6), complex)), 'got complex128'),
        (Items(lambda image: image[: image[0, 0, 0] % 5 + 1]), 'bring all to one'),
        (Labelled(0.5), 'expected an integer label, got float64'),
        (Labelled(10), r'label 10 of image 0 is not in 0\.\.9.*give from_torch all of their class_names'),
        (Labelled(-1), 'expected a label of 0 or more, got -1; leave out unlabelled images'),
        (Items(lambda image: first(image).float().to_sparse()), r'dense tensors .*torch\.sparse_coo'),
        (Items(lambda image: first(image).to('meta')), r'dense tensors with values, got .*on meta'),
        (Items(lambda image: 'picture.png'), 'got str; open and convert them in the Dataset'),
        (Items(lambda image: None), 'got NoneType; open and convert'),
        (Labelled(torch.eye(10)[2]), 'expected an integer label'),
        ([1, 2], 'expected items .*got int'),
        (3, 'expected a map-style Dataset or a DataLoader, got int'),
        ([], 'expected at least one image, got none'),
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
