"""A PyTorch module: its trained parameters, by the names of its state dict."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from .._checks import require
from ._apply import Apply, calling, imported, require_names


def from_torch(
    module: Any, call: Callable[..., Any] | None = None, *, state_as_parameters: bool = False
) -> tuple[Apply, PyTree]:
    """A PyTorch module as ``(apply, params)``; ``params`` has the names of its state dict.

    The parameters are a flat dictionary of copies; a tied one is there once, by its first name.
    Buffers are held constant, and so is a parameter with ``requires_grad=False`` beside others that
    are trained; ``state_as_parameters`` makes these, and the floating-point buffers of the state
    dict (statistics of norms), parameters too. ``call(module, *inputs)`` says how to run the module
    where ``module(*inputs)`` does not, and which output is meant: ``lambda m, ids: m(ids).logits``.
    A mapping as output (a Hugging Face ``ModelOutput``) becomes a dictionary.

    ``apply(params, *inputs)`` takes arrays and runs the module's own Python code on them through
    torchax. What that computes from constants alone is computed while it is traced; what it writes
    to buffers is dropped. It tries the code as it is, then with ``torch.compiler.is_compiling()``
    true (many models leave out a look at the data then), then what `torch.export` makes of it.
    Later changes of ``module`` change nothing here. ``apply.restore(params)`` is a module on the
    CPU. A module on the device ``meta`` gives abstract parameters (`jax.ShapeDtypeStruct`), which
    are enough for `find_symmetries`: a model of any size needs no weights.

    Raises ImportError without torch and torchax (the extra ``torch``). Raises ValueError for what
    is no module, or a compiled or scripted one; without parameters; in training mode with dropout;
    with tensors on a GPU, sparse, quantised, lazy, or of 64 bits without JAX's x64; on ``meta``
    with buffers whose values the module does not say. ``apply`` raises it where the module cannot
    be traced: it branches on values, draws random numbers, needs an operator that torchax lacks
    (which is named), or returns what is no array.

    Example:
        >>> import torch
        >>> apply, params = from_torch(torch.nn.Linear(2, 3))
        >>> sorted(params), apply(params, jnp.ones((4, 2))).shape
        (['bias', 'weight'], (4, 3))
        >>> apply.restore(params)
        Linear(in_features=2, out_features=3, bias=True)
    """
    torchax = imported(f"{__package__}._torchax", "PyTorch and torchax", "torch")
    modules = imported(f"{__package__}._torch_modules", "PyTorch and torchax", "torch")

    modules.require_usable(module)
    trained = _parameters(module, state_as_parameters)
    require(bool(trained), "`module` holds no parameters.")
    params = {name: torchax.to_leaf(x) for name, x in trained.items()}
    held = {k: x for k, x in modules.tensors(module).items() if k not in trained}
    constants = {k: torchax.to_array(x) for k, x in modules.with_values(module, held).items()}
    skeleton = modules.on_meta(module)
    program = torchax.Program(modules.on_meta(module), calling(call))

    shapes = {name: tuple(x.shape) for name, x in trained.items()}

    def state(params):
        require_names(params, shapes)
        return {**params, **constants}

    def run(params, *inputs, **options):
        return _plain(program(state(params), inputs, options))

    def restore(params):
        new = {name: torchax.to_tensor(x) for name, x in state(params).items()}
        return modules.with_tensors(skeleton, new)

    return Apply(run, restore), params


def _parameters(module, state_as_parameters):
    """The tensors that are parameters, by name."""
    named = dict(module.named_parameters())
    if not state_as_parameters:
        return {name: p for name, p in named.items() if p.requires_grad} or named
    kept = module.state_dict(keep_vars=True)
    buffers = {name: b for name, b in module.named_buffers() if name in kept}
    floating = {name: b for name, b in buffers.items() if b.is_floating_point()}
    return named | floating


def _plain(output):
    """An output as a pytree of arrays, without what is `None` in a mapping."""
    if isinstance(output, Mapping):
        return {k: _plain(x) for k, x in output.items() if x is not None}
    if isinstance(output, (tuple, list)):
        return tuple(map(_plain, output))
    require(
        isinstance(output, jax.Array | int | float | complex | type(None)),
        f"`module` returns a {type(output).__name__} among its outputs, which is no array: pass "
        "`call` to say which output is meant, as in call=lambda module, x: module(x).logits, or "
        "switch it off (Hugging Face caches: use_cache=False).",
    )
    return output
