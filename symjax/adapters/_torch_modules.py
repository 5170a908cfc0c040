"""What a PyTorch module holds: which tensors, where they are, and whether they can be used.

Imported by `from_torch` alone, for importing it imports torch.
"""

import copy
from collections.abc import Callable
from typing import Any

import jax
import torch

from .._checks import require

_Tensors = dict[str, torch.Tensor]
_SPECIAL = {
    torch._dynamo.eval_frame.OptimizedModule: "compiled: pass the module that torch.compile got",
    torch.jit.ScriptModule: "scripted, so there is no Python code to trace: pass the module itself",
    torch.nn.DataParallel: "replicated: pass `module.module`",
}


def tensors(module: torch.nn.Module) -> _Tensors:
    """Every parameter and buffer, each once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def require_usable(module: Any) -> None:
    """A module in evaluation mode, with dense tensors on the CPU or on ``meta``."""
    require(
        isinstance(module, torch.nn.Module),
        f"`module` must be a torch.nn.Module, got {type(module).__name__}.",
    )
    for kind, why in _SPECIAL.items():
        require(not isinstance(module, kind), f"`module` is {why}.")
    for name, x in tensors(module).items():
        _require_plain(name, x)
    for name, part in module.named_modules():
        require(
            not (part.training and _drops(part)),
            f"`module` is in training mode and has dropout ({name or type(part).__name__}), so its "
            "output is random: call module.eval().",
        )


def _drops(part):
    """Whether a layer drops units in training mode (its own, not those of its children)."""
    if isinstance(part, torch.nn.modules.dropout._DropoutNd):
        return part.p > 0
    has = isinstance(part, torch.nn.RNNBase | torch.nn.MultiheadAttention)
    return has and part.dropout > 0


def _require_plain(name, x):
    fit = "`module` must hold dense tensors on the CPU (or on meta): "
    require(
        not torch.nn.parameter.is_lazy(x),
        f"{fit}{name!r} has no shape yet; call the module once on an example.",
    )
    require(
        x.layout is torch.strided,
        f"{fit}{name!r} is sparse ({x.layout}); use its .to_dense().",
    )
    require(not x.is_quantized, f"{fit}{name!r} is quantised; use its .dequantize().")
    require(
        x.device.type in ("cpu", "meta"),
        f"{fit}{name!r} is on {x.device}; call module.cpu() (JAX places the arrays by itself).",
    )
    wide = x.dtype in (torch.float64, torch.complex128)
    require(
        not wide or jax.dtypes.canonicalize_dtype(float) == "float64",
        f"`module` has 64-bit numbers ({name!r} is {x.dtype}), and JAX is set to 32 bits: call "
        "module.float(), or set jax_enable_x64.",
    )


def on_meta(module: torch.nn.Module) -> torch.nn.Module:
    """A copy without values: every parameter and buffer is on the device ``meta``."""
    empty = {name: x.detach().to("meta") for name, x in tensors(module).items()}
    return with_tensors(module, empty)


def with_tensors(module: torch.nn.Module, new: _Tensors) -> torch.nn.Module:
    """A copy with these parameters and buffers; what is tied stays tied, and no other is copied."""
    memo: dict[int, Any] = {}
    for part in module.modules():  # a tensor beside the buffers may not be copied if it has a graph
        kept = [x for x in vars(part).values() if isinstance(x, torch.Tensor) and not x.is_leaf]
        memo.update({id(x): x.detach() for x in kept})
    memo.update({id(x): new[name] for name, x in module.named_buffers()})
    for name, x in module.named_parameters():
        memo[id(x)] = torch.nn.Parameter(new[name], requires_grad=x.requires_grad)
    try:
        return copy.deepcopy(module, memo)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"`module` cannot be copied (copy.deepcopy said: {error}).") from error


def with_values(module: torch.nn.Module, held: _Tensors) -> _Tensors:
    """Constants with their values; those on ``meta`` as the module itself would fill them."""
    absent = [name for name, x in held.items() if x.is_meta]
    if not absent:
        return held
    # What two different fills agree on after the module has initialised itself has a value.
    zeros, ones = (_initialised(module, held, fill) for fill in (torch.zeros_like, torch.ones_like))
    unknown = [name for name in absent if not torch.equal(zeros[name], ones[name])]
    require(
        not unknown,
        f"`module` is on meta, and nothing says what its buffers {', '.join(unknown[:5])}"
        f"{' ...' if unknown[5:] else ''} hold: give them values, as with "
        "module.NAME = tensor on the CPU, or build the module on the CPU.",
    )
    return {name: zeros[name] if x.is_meta else x for name, x in held.items()}


def _initialised(module, held, fill: Callable[..., torch.Tensor]) -> _Tensors:
    """The constants of a copy that has run the initialisers of its layers."""
    start = {
        name: fill(x, device="cpu") if name in held and x.is_meta else x.detach()
        for name, x in tensors(module).items()
    }
    filled = with_tensors(module, start)
    with torch.device("cpu"), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in filled.modules():
            if (
                isinstance(part, torch.nn.modules.batchnorm._NormBase)
                and part.running_mean is not None
            ):
                # Generic ones: scales that hold at a mean of 0 alone would be no symmetries.
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 1.5)
                part.num_batches_tracked.fill_(1)
            elif callable(own := getattr(filled, "_init_weights", None)):  # Hugging Face
                own(part)
    return {name: x for name, x in tensors(filled).items() if name in held}
