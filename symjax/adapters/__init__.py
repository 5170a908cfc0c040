"""Adapters: a framework's model as ``(apply, params)``, and back.

The only part of the package that knows a framework. ``apply(params, *inputs)`` is a pure function
and ``params`` a pytree whose leaves are the parameters; ``apply.restore(params)`` is the model with
other parameters. A framework is imported when it is asked for. Haiku, dictionaries of weights and
plain functions need no adapter.
"""

from ._apply import Apply as Apply
from ._equinox import from_equinox as from_equinox
from ._flax import from_linen as from_linen, from_nnx as from_nnx
from ._keras import from_keras as from_keras
from ._torch import from_torch as from_torch
