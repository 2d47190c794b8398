"""Class names of the well-known sets, for files without them."""

CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
DIGITS = tuple('0123456789')
FASHION = (
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
)
CLASS_NAMES = {'cifar10': CIFAR10, 'mnist': DIGITS, 'fashion_mnist': FASHION}
