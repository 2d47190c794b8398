"""The one exception for mistakes a user can make."""


class UserError(ValueError):
    """A mistake in a config, a file or an argument: one line that says what was expected,
    what came and what to do. `python -m train` prints it alone and exits with code 2."""


class NoTorchMap(UserError):
    """A model, or a layer in it, without a map from PyTorch keys to its values."""
