"""The arithmetic of a function, counted in its jaxpr: multiply-adds, and what choosing neighbours adds."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core

from flaxnets.layers.selection import SCOPE

# Comparisons by element of the result, and by element of what is reduced.
ELEMENTWISE = ('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'max', 'min')
REDUCING = ('reduce_max', 'reduce_min', 'argmax', 'argmin', 'top_k', 'sort')


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """What a function computes.

    Attributes:
        multiply_adds: of the matrix products and convolutions, what papers call MACs, half of the FLOPs.
        between_tokens: those of them that compare tokens, to choose neighbours.
        comparisons: of similarities, to choose neighbours; a sorted list of n counts n log n.
        gathered: values taken by index.
    """

    multiply_adds: int = 0
    between_tokens: int = 0
    comparisons: int = 0
    gathered: int = 0

    def plus(self, other: 'Arithmetic', times: int = 1) -> 'Arithmetic':
        """This plus `times` times the other."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Arithmetic(*(a + times * b for a, b in pairs))


def arithmetic(function: Callable[..., Any], *args: Any) -> Arithmetic:
    """That of `function(*args)`.

    Other elementwise arithmetic is not counted, products with a convolution's padding are. Nothing is
    computed, and arguments may be `jax.ShapeDtypeStruct`.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr, choosing=False)


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-adds of the matrix products and convolutions in `function(*args)`.

    >>> x = jax.ShapeDtypeStruct((5, 3), 'float32')
    >>> multiply_adds(lambda x: x @ x.T, x)
    75
    """
    return arithmetic(function, *args).multiply_adds


def _count(jaxpr: core.Jaxpr, *, choosing: bool) -> Arithmetic:
    total = Arithmetic()
    for equation in _needed(jaxpr):
        total = total.plus(_of_equation(equation, choosing or SCOPE in str(equation.source_info.name_stack)))
    return total


def _needed(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """The equations that a result depends on. XLA computes no others, such as the gradient of the images."""
    needed = {id(variable) for variable in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            needed.update(id(variable) for variable in equation.invars)
            yield equation


def _of_equation(equation: core.JaxprEqn, choosing: bool) -> Arithmetic:
    params, name = equation.params, equation.primitive.name
    inputs, outputs = (_shapes(variables) for variables in (equation.invars, equation.outvars))
    products = 0
    if name == 'dot_general':
        (contracted, _), _ = params['dimension_numbers']
        products = math.prod(outputs[0]) * math.prod(inputs[0][axis] for axis in contracted)
    elif name == 'conv_general_dilated':
        summed = params['dimension_numbers'].rhs_spec[1:]  # the kernel's axes but the output features
        products = math.prod(outputs[0]) * math.prod(inputs[1][axis] for axis in summed)
    if products:
        return Arithmetic(products, products if choosing else 0)
    if name == 'gather':
        return Arithmetic(gathered=0 if choosing else math.prod(outputs[0]))
    if choosing and name in ELEMENTWISE:
        return Arithmetic(comparisons=math.prod(outputs[0]))
    if choosing and name in REDUCING:
        sorted_by = math.ceil(math.log2(max(inputs[0][-1], 2))) if name in ('top_k', 'sort') else 1
        return Arithmetic(comparisons=math.prod(inputs[0]) * sorted_by)
    parts = [_count(inner, choosing=choosing) for inner in core.jaxprs_in_params(params)]
    if name == 'cond':  # one branch is computed, such as the platform's way of choosing neighbours
        return max(parts, key=lambda part: (part.multiply_adds, part.comparisons))
    total = Arithmetic()
    for part in parts:
        total = total.plus(part, params['length'] if name == 'scan' else 1)
    return total


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [getattr(variable.aval, 'shape', ()) for variable in variables]
