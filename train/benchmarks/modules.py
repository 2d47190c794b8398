"""A model's modules, each run alone on inputs of the shapes it sees in a training step."""

import collections
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxnets.layers import depth
from train.benchmarks.arithmetic import multiply_adds
from train.benchmarks.timing import alternate
from train.benchmarks.training import spread
from train.distributed.convolutions import compiler

ROUNDS = 5


@dataclasses.dataclass
class Call:
    """One call of a module: where in the model, what it was given. `first`: its input is the batch itself, of
    which no gradient is needed."""

    path: str
    module: nnx.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    first: bool
    parameters: int
    children: list['Call'] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        """The path and the module's class."""
        return f'{self.path} {type(self.module).__name__}'.strip()


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a call: multiply-adds of the forward pass, and seconds of both passes."""

    multiply_adds: int
    forward: float
    backward: float


def calls(model: nnx.Module, images: jax.ShapeDtypeStruct) -> Call:
    """The model's call on such images, with those of its modules inside it, in their order.

    A module that calls a method of another in place of the other itself has no line for that one.
    """
    modules = dict(nnx.iter_modules(model))
    paths: dict[int, Any] = {}
    stack: list[Call] = []
    roots: list[Call] = []

    def recorded(method: Callable[..., Any], module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(module))
        if path is None or (stack and stack[-1].module is modules[path]):  # such as super().__call__
            return method(module, *args, **kwargs)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
        given, named = abstract((args, kwargs))
        first = args[0] is seen[0]
        call = Call('.'.join(map(str, path)), modules[path], given, named, first, parameters)
        (stack[-1].children if stack else roots).append(call)
        stack.append(call)
        try:
            return method(module, *args, **kwargs)
        finally:
            stack.pop()

    seen: list[Any] = []
    graph, state = nnx.split(model)

    def forward(x: jax.Array) -> jax.Array:
        seen.append(x)
        copy = nnx.merge(graph, state, copy=True)  # a call moves running statistics
        paths.update({id(module): path for path, module in nnx.iter_modules(copy)})
        return copy(x, rngs=nnx.Rngs(0)) if takes_rngs(copy) else copy(x)

    with depth.written_out(), _watched({type(module) for module in modules.values()}, recorded):
        jax.eval_shape(forward, images)
    return roots[0]


def takes_rngs(module: nnx.Module) -> bool:
    """Whether a call may be given random streams."""
    return 'rngs' in inspect.signature(type(module).__call__).parameters


@contextlib.contextmanager
def _watched(classes: set[type], recorded: Callable[..., Any]) -> Iterator[None]:
    """Calls of modules of these classes go through `recorded`."""
    # Looked up by hand, because every class has the __call__ of its metaclass.
    defined = {cls: [base for base in cls.__mro__ if '__call__' in vars(base)] for cls in classes}
    methods = {cls: vars(bases[0])['__call__'] for cls, bases in defined.items() if bases}
    try:
        for cls, method in methods.items():
            # A function, because a partial would not be bound to the module.
            def call(self: Any, *args: Any, _method: Any = method, **kwargs: Any) -> Any:
                return recorded(_method, self, *args, **kwargs)

            setattr(cls, '__call__', functools.wraps(method)(call))  # noqa: B010
        yield
    finally:
        for cls, method in methods.items():
            if defined[cls][0] is cls:
                setattr(cls, '__call__', method)  # noqa: B010
            else:
                delattr(cls, '__call__')


def abstract(tree: Any) -> Any:
    """Arrays as their shapes, random streams as None; other values as they are."""

    def one(x: Any) -> Any:
        if isinstance(x, nnx.Rngs):
            return None
        return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x

    return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, nnx.Rngs))


def measure(root: Call, onednn: bool = False) -> dict[int, Cost]:
    """{id of a call: its cost}; calls alike are measured once."""
    known: dict[Any, Cost] = {}
    costs = {}
    for call in walk(root):
        shapes = abstract(nnx.to_pure_dict(nnx.split(call.module)[1]))
        key = str((graph_key(call), jax.tree.leaves(shapes), call.args, call.kwargs, call.first))
        if key not in known:
            known[key] = cost(call, onednn)
        costs[id(call)] = known[key]
    return costs


def graph_key(call: Call) -> str:
    """The module's kind and settings, its place in the model left out."""
    settings = {
        name: value
        for name, value in sorted(vars(call.module).items())
        if isinstance(value, int | float | str | bool | tuple | type(None))
    }
    return f'{type(call.module)} {settings}'


def walk(call: Call, depth: int = 0) -> Iterator[Call]:
    """The call and those inside it, in their order."""
    yield call
    for child in call.children:
        yield from walk(child, depth + 1)


def cost(call: Call, onednn: bool = False) -> Cost:
    """The call's module alone on random inputs; `backward` is what gradients take beyond the forward pass.

    `onednn` says whose convolutions it has (`convolutions.by_onednn`).
    """
    graph, params, *rest = nnx.split(call.module, nnx.Param, ...)
    filled = jax.tree.map(
        lambda x: random(x) if isinstance(x, jax.ShapeDtypeStruct) else x,
        (call.args, {k: v for k, v in call.kwargs.items() if k != 'rngs'}),
        is_leaf=lambda x: isinstance(x, jax.ShapeDtypeStruct),
    )
    leaves, structure = jax.tree.flatten(filled)
    arrays = [isinstance(leaf, jax.Array) for leaf in leaves]
    inputs = [leaf for leaf, is_array in zip(leaves, arrays, strict=True) if is_array]
    rngs = {'rngs': nnx.Rngs(0)} if takes_rngs(call.module) else {}

    def forward(params: Any, inputs: list[jax.Array]) -> Any:
        given = iter(inputs)
        args, kwargs = jax.tree.unflatten(
            structure, [next(given) if a else leaf for leaf, a in zip(leaves, arrays, strict=True)]
        )
        module = nnx.merge(graph, params, *rest, copy=True)
        fresh = {name: nnx.Rngs(0) for name in rngs}
        return module(*args, **kwargs, **fresh)

    def both(params: Any, inputs: list[jax.Array]) -> Any:
        floats = [jnp.issubdtype(x.dtype, jnp.floating) and not call.first for x in inputs]
        wanted = [x for x, f in zip(inputs, floats, strict=True) if f]

        def of(params: Any, wanted: list[jax.Array]) -> Any:
            given = iter(wanted)
            return forward(params, [next(given) if f else x for x, f in zip(inputs, floats, strict=True)])

        out, back = jax.vjp(of, params, wanted)
        # The output itself as its gradient: anything else would have to be drawn or could be folded away.
        return out, back(out)

    jit = compiler(jax.jit, onednn)
    functions = {'forward': jit(forward), 'both': jit(both)}
    calls: dict[str, Callable[[], Any]] = {
        name: functools.partial(lambda f: jax.block_until_ready(f(params, inputs)), function)
        for name, function in functions.items()
    }
    taken = {name: spread(seconds)['median'] for name, seconds in alternate(calls, ROUNDS).items()}
    return Cost(
        multiply_adds(forward, params, inputs),
        taken['forward'],
        max(taken['both'] - taken['forward'], 0.0),
    )


def random(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Normal values, or zeros of an integer type."""
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        return jnp.zeros(shape.shape, shape.dtype)
    return jax.random.normal(jax.random.key(0), shape.shape, shape.dtype)


def parts(root: Call, costs: dict[int, Cost]) -> dict[str, float]:
    """{name: seconds of its own} of every call: without those of the calls inside it."""
    own: dict[str, float] = collections.defaultdict(float)
    for call in walk(root):
        inner = sum(costs[id(c)].forward + costs[id(c)].backward for c in call.children)
        own[call.name] += max(costs[id(call)].forward + costs[id(call)].backward - inner, 0.0)
    return dict(own)
