"""From the keys of a file to the keys of a model's map.

Three changes are made: the user's rules, removing a prefix (Lightning saves a model's keys with `model.` in
front), and translating the keys that other code has for the same values (`maps.Variant`).
"""

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from flaxnets.errors import UserError
from flaxnets.interop import maps
from flaxnets.interop.state_dicts import shown

# A key has few components; longer keys of a malicious file are not examined.
DEPTH = 12


@dataclasses.dataclass(frozen=True)
class Renames:
    """The new name of each key.

    Attributes:
        keys: {key in the file: key in the map}, of all of them, in the file's order.
        left_out: keys of layers that the other code has and this model leaves out.
        variant: whose keys the file has, where they are not those of the map.
        prefix: what was removed.
    """

    keys: dict[str, str]
    left_out: frozenset[str] = frozenset()
    variant: str = ''
    prefix: str = ''

    def apply(
        self, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]]
    ) -> dict[str, np.ndarray]:
        """The arrays under their new keys. A linear layer that the other code has as a convolution over
        its whole input, [O, C, H, W], gets the expected shape, [O, C H W]."""
        result = {}
        for key, array in arrays.items():
            new = self.keys.get(key, key)
            shape = shapes[new][0] if new in shapes else array.shape
            as_convolution = self.variant and array.ndim == 4 and len(shape) == 2
            if as_convolution and (len(array), array[0].size) == shape:
                result[new] = array.reshape(shape)
            else:
                result[new] = array
        return result

    def __str__(self) -> str:
        said = [f'keys of {self.variant}'] if self.variant else []
        said += [f'prefix {shown(self.prefix)!r} removed'] if self.prefix else []
        return ', '.join(said)


def rules(keys: Iterable[str], given: Sequence[str]) -> Renames:
    """The user's rules, 'OLD=NEW': each key becomes `re.sub(OLD, NEW, key)`, rule after rule.

    Raises:
        UserError: no rule, a rule that changes no key, two keys that become one.
    """
    renamed = {key: key for key in keys}
    for rule in given:
        old, equals, new = rule.partition('=')
        if not equals or not old:
            raise UserError(f"rename: expected 'OLD=NEW', such as 'head.fc=classifier.6', got {rule!r}")
        try:
            after = {key: re.sub(old, new, name) for key, name in renamed.items()}
        except (re.error, IndexError) as error:
            raise UserError(f'rename: expected a regular expression, got {rule!r} ({error})') from None
        if after == renamed:
            raise UserError(
                f'rename: {rule!r} changes no key; the keys are {", ".join(map(shown, list(renamed)[:10]))}'
            )
        renamed = after
    return Renames(_each_once(renamed))


def recognised(
    renames: Renames,
    expected: Collection[str],
    unused: Collection[str],
    variants: Iterable[maps.Variant],
) -> Renames:
    """`renames`, and after them the prefix and the variant under which most of the keys are expected ones.

    Nothing more is done to keys that are as expected without them, or where two prefixes do equally well, or
    where most keys are not of this model.
    """
    wanted = {*expected, *unused}
    known = [maps.Variant('', {}), *variants]
    hits: collections.Counter[tuple[str, int]] = collections.Counter()
    for key in renames.keys.values():
        parts = key.split('.')[:DEPTH] if key.count('.') < DEPTH else []
        for start in range(len(parts)):
            prefix, rest = '.'.join(parts[:start]), '.'.join(parts[start:])
            for number, variant in enumerate(known):
                hits[prefix, number] += variant.leaves_out(rest) or variant.translated(rest) in wanted
    most = max(hits.values(), default=0)
    enough = min(len(expected), len(renames.keys)) / 2
    best = sorted(
        (choice for choice, count in hits.items() if count == most), key=lambda c: (len(c[0]), c[1])
    )
    if most <= enough or ('', 0) in best or len({prefix for prefix, _ in best}) > 1:
        return renames
    (prefix, number), variant = best[0], known[best[0][1]]
    dotted = f'{prefix}.' if prefix else ''
    plain = {key: name.removeprefix(dotted) for key, name in renames.keys.items()}
    left_out = frozenset(name for name in plain.values() if variant.leaves_out(name))
    keys = {key: name if name in left_out else variant.translated(name) for key, name in plain.items()}
    return Renames(_each_once(keys), left_out, variant.name, dotted)


def _each_once(keys: dict[str, str]) -> dict[str, str]:
    """The keys, if no two became one."""
    twice = [name for name, count in collections.Counter(keys.values()).items() if count > 1]
    if twice:
        both = ' and '.join(shown(key) for key, name in keys.items() if name == twice[0])
        raise UserError(f'rename: {both} both become {shown(twice[0])}')
    return keys
