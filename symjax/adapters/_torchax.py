"""Running PyTorch code on JAX arrays: torchax, and what is got around from outside of it.

Imported by `from_torch` alone, for importing it imports torch.
"""

import contextlib
import copy
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.core import Tracer
from torch.func import functional_call
from torch.utils import _pytree as pytree

from .._checks import first_line


class _Removed:
    """Stands for an overload that torch no longer has; no call can meet it."""


@contextlib.contextmanager
def _removed_overloads() -> Iterator[None]:
    """While torchax is imported: torchax 0.0.13 names overloads that torch 2.13 has taken out."""
    packet = torch._ops.OpOverloadPacket
    found = packet.__getattr__

    def find(self, name):
        try:
            return found(self, name)
        except AttributeError:
            if name.startswith("_"):
                raise
            return _Removed()

    packet.__getattr__ = find  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        packet.__getattr__ = found


_fast_path = torch.backends.mha.get_fastpath_enabled()
with _removed_overloads():
    import torchax
    from torchax import decompositions as _decompositions, tensor, view
    from torchax.ops import jaten as _lowerings, mappings, ops_registry
torch.backends.mha.set_fastpath_enabled(_fast_path)  # torchax switches it off for the whole process

_KNOWN = (_lowerings, _decompositions)  # imported for what they register


def _unbind(x, dim=0):  # what LSTM and GRU are made of
    return tuple(jax.lax.index_in_dim(x, i, dim, keepdims=False) for i in range(x.shape[dim]))


def _grouped_mm(x, y, offs=None, bias=None, out_dtype=None):  # what mixtures of experts are made of
    if offs is None or x.ndim != 2 or y.ndim != 3:
        raise NotImplementedError(
            "torch's grouped_mm, but for rows in groups times one matrix each"
        )
    out = jax.lax.ragged_dot(x, y, jnp.diff(offs, prepend=0))
    out = out if bias is None else out + bias
    return out if out_dtype is None else out.astype(mappings.t2j_dtype(out_dtype))


for _name, _lowering in {"unbind": _unbind, "_grouped_mm": _grouped_mm}.items():
    _packet = getattr(torch.ops.aten, _name, None)
    for _overload in _packet.overloads() if _packet is not None else ():
        if (_operator := getattr(_packet, _overload)) not in ops_registry.all_aten_ops:
            ops_registry.register_torch_dispatch_op(_operator, _lowering)


class DrawsRandom(ValueError):
    """The program asks for random numbers, so it is no function of its parameters and inputs."""


class Environment(tensor.Environment):
    """torchax's environment, in which constants are folded and nothing is random.

    What a program computes from constants alone (positions, masks, buckets) is computed while it
    is traced, so that it can branch on it, and so that discovery sees the numbers.
    """

    def dispatch(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """One operation of the program, on JAX arrays."""
        held = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(isinstance(_array(x), Tracer) for x in held):
            return super().dispatch(func, types, args, kwargs)
        with jax.ensure_compile_time_eval():
            return super().dispatch(func, types, args, kwargs)

    def _should_use_torchax_tensor(self, device: Any) -> bool:
        return True  # there is one place for every tensor, wherever the program says that it is

    def _to_copy(self, the_tensor: Any, new_dtype: Any, new_device: Any) -> Any:
        if type(the_tensor) in (torch.Tensor, torch.nn.Parameter):
            the_tensor = tensor.Tensor(to_array(the_tensor), self)
        return super()._to_copy(the_tensor, new_dtype, None)

    def t2j_iso(self, torchtensors: Any) -> Any:
        """The arrays inside; a tensor that the program kept beside its buffers is a constant."""
        constant = lambda x: type(x) in (torch.Tensor, torch.nn.Parameter)
        wrap = lambda x: tensor.Tensor(to_array(x), self) if constant(x) and x.ndim else x
        return super().t2j_iso(pytree.tree_map(wrap, torchtensors))

    def get_and_rotate_prng_key(self, generator: torch.Generator | None = None) -> Any:
        """Refused: see `DrawsRandom`."""
        raise DrawsRandom(
            "`module` draws random numbers while it runs (dropout in training mode, or a sample), "
            "so it is no function of its parameters: call module.eval(), or pass a `call` without."
        )


def _array(x: Any) -> Any:
    if isinstance(x, tensor.Tensor):
        return x._elem
    return x.source_jax() if isinstance(x, view.View) else None


def to_array(x: torch.Tensor) -> jax.Array:
    """A copy of a tensor as an array of the same dtype (as JAX's settings have it)."""
    with torch.utils._mode_utils.no_dispatch(), torch._C.DisableTorchFunction():
        x = x.detach().contiguous()
        dtype = mappings.t2j_dtype(x.dtype)
        if x.dtype.is_floating_point and x.element_size() < 4 and x.dtype is not torch.float16:
            x = x.view(torch.int16 if x.element_size() == 2 else torch.int8)  # NumPy lacks these
        host = x.numpy()
    same = host.view(dtype) if host.dtype != dtype and host.dtype.kind == "i" else host
    return jnp.array(same, jax.dtypes.canonicalize_dtype(dtype), copy=True)


def to_tensor(x: jax.Array | jax.ShapeDtypeStruct) -> torch.Tensor:
    """A copy of an array as a tensor on the CPU; an abstract one is on the device ``meta``."""
    dtype = mappings.j2t_dtype(x.dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return torch.empty(x.shape, dtype=dtype, device="meta")
    host = jax.device_get(x)
    narrow = host.dtype.kind not in "fiubc"  # bfloat16 and below: NumPy has no name for these
    whole = host.view(f"i{host.dtype.itemsize}") if narrow else host
    made = torch.from_numpy(whole.copy())
    return made.view(dtype) if narrow else made


def to_leaf(x: torch.Tensor) -> jax.Array | jax.ShapeDtypeStruct:
    """A parameter as a leaf: abstract, where it has no values."""
    if x.is_meta:
        return jax.ShapeDtypeStruct(tuple(x.shape), mappings.t2j_dtype(x.dtype))
    return to_array(x)


class Program:
    """A module's code on JAX arrays: ``program(state, inputs, options)``.

    There are three readings of the code, tried in this order; the one that went well is the first
    to be tried the next time, since a reading that fails has traced half of the module in vain.
    """

    def __init__(self, skeleton: torch.nn.Module, call: Callable[..., Any]):
        self.module = _Called(skeleton, call)
        _fix_experts(self.module)
        self.readings = [_as_it_is, _compiling, _exported]

    def __call__(
        self, state: dict[str, Any], inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """The outputs, with arrays in place of tensors."""
        inputs, options = pytree.tree_map(_input, (inputs, options))
        state = {f"module.{name}": jnp.asarray(x) for name, x in state.items()}
        errors = []
        for reading in self.readings:
            try:
                output = reading(self.module, state, inputs, options)
            except DrawsRandom:
                raise
            except Exception as error:
                errors.append(error)
            else:
                self.readings.sort(key=lambda other: other is not reading)
                return output
        raise ValueError(_what_stopped(errors[0])) from errors[0]


class _Called(torch.nn.Module):
    """A module whose forward pass is ``call(module, *inputs)``."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call
        self.training = module.training

    def forward(self, *inputs, **options):
        return self.call(self.module, *inputs, **options)


def _fix_experts(module):
    """Hugging Face's mixtures of experts as one batched product, whatever the data.

    The other ways loop over the experts that were hit, or sort the tokens by them.
    """
    for part in module.modules():
        config = getattr(part, "config", None)
        if hasattr(config, "_experts_implementation_internal"):
            vars(config)["_experts_implementation_internal"] = "batched_mm"


def _input(x):
    """An input as an array; what is no array or tensor is an option and stays."""
    if isinstance(x, torch.Tensor):
        if x.device.type != "cpu" or x.layout is not torch.strided:
            raise ValueError(
                f"`inputs` must be arrays, or dense tensors on the CPU; got one that is {x.layout} "
                f"on {x.device}."
            )
        return to_array(x)
    return jnp.asarray(x) if isinstance(x, np.ndarray | np.generic) else x


def _as_it_is(module, state, inputs, options):
    # A copy, since a module may keep what it computes; its tensors are replaced in the call.
    own = [*module.parameters(), *module.buffers()]
    copied = copy.deepcopy(module, {id(x): x for x in own})
    return _run(lambda s, *x, **o: functional_call(copied, s, x, o), state, inputs, options)


def _compiling(module, state, inputs, options):
    with mock.patch.object(torch.compiler, "is_compiling", return_value=True):
        return _as_it_is(module, state, inputs, options)


def _exported(module, state, inputs, options):
    """The graph that torch.export makes from shapes, run like a module."""
    empty = lambda x: to_tensor(jax.ShapeDtypeStruct(x.shape, x.dtype))
    blank = lambda x: empty(x) if isinstance(x, jax.Array) else x
    shapes, flags = pytree.tree_map(blank, (inputs, options))
    with torch.no_grad(), torch.device("meta"):
        graph = torch.export.export(module, shapes, flags, strict=False).module(check_guards=False)
    known = {name for name, _ in [*graph.named_parameters(), *graph.named_buffers()]}
    used = {name: x for name, x in state.items() if name in known}
    return _run(lambda s, *x, **o: functional_call(graph, s, x, o), used, inputs, options)


def _run(function, state, inputs, options):
    """``function(state, *inputs, **options)`` under torchax, with arrays as results."""
    with jax.ensure_compile_time_eval():  # it has a random key, which is nothing of the program
        env = Environment()
    into = lambda x: tensor.Tensor(x, env) if isinstance(x, jax.Array) else x
    state, inputs, options = pytree.tree_map(into, (state, inputs, options))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(view.NarrowInfo, "calculate_output_shape", _shape))
        # torchax is written for JAX as it comes; a caller may have made it stricter.
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel without a lowering
        stack.enter_context(torch.no_grad())
        stack.enter_context(env)
        return env.t2j_iso(function(state, *inputs, **options))


def _shape(self, source):
    """The shape of a view; torchax slices to learn it, and leaves the slice in the program."""
    return jax.eval_shape(lambda x: x[self.slices], source).shape


def _what_stopped(error):
    """Why a module could not be traced, where, and what to do."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
    where = f" (in {own[-1].filename}, line {own[-1].lineno}: {own[-1].line:.80})" if own else ""
    first = first_line(error)
    if isinstance(error, tensor.OperatorNotFound):
        return (
            f"`module` needs an operator that torchax {torchax.__version__} lacks{where}: {first}. "
            "Write that line with other operators, or teach torchax a JAX function for it: "
            "torchax.ops.ops_registry.register_torch_dispatch_op(torch.ops.aten.NAME, function)."
        )
    if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
        return (
            f"`module` cannot be traced: it decides by the values of its inputs or parameters"
            f"{where}. Pass a `call` that leaves the decision out (an explicit mask, a fixed "
            f"length). JAX says: {first}"
        )
    return f"`module` could not be run on these inputs{where}: {type(error).__name__}: {first}"


def _is_machinery(filename):
    return any(
        f"{os.sep}{name}{os.sep}" in filename for name in ("torch", "torchax", "jax", "adapters")
    )
