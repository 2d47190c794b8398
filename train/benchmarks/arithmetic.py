"""The multiply-adds of a function, counted in its jaxpr."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-adds of the matrix products and convolutions in `function(*args)`.

    What papers call MACs, half of the FLOPs: elementwise arithmetic, comparisons and gathers are not
    counted, products with a convolution's padding are. Nothing is computed, and arguments may be
    `jax.ShapeDtypeStruct`.

    >>> x = jax.ShapeDtypeStruct((5, 3), 'float32')
    >>> multiply_adds(lambda x: x @ x.T, x)
    75
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    params = equation.params
    inputs, outputs = (
        [getattr(v.aval, 'shape', ()) for v in vs] for vs in (equation.invars, equation.outvars)
    )
    if equation.primitive.name == 'dot_general':
        (contracted, _), _ = params['dimension_numbers']
        return math.prod(outputs[0]) * math.prod(inputs[0][axis] for axis in contracted)
    if equation.primitive.name == 'conv_general_dilated':
        summed = params['dimension_numbers'].rhs_spec[1:]  # the kernel's axes but the output features
        return math.prod(outputs[0]) * math.prod(inputs[1][axis] for axis in summed)
    times = params['length'] if equation.primitive.name == 'scan' else 1
    return times * sum(_count(inner) for inner in core.jaxprs_in_params(params))
