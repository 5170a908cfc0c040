"""What every bound is: a number together with the hypotheses that make it a theorem."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._results import AbstractResult, printed
from ._numbers import all_true


def hypothesis() -> Any:
    """Declare a boolean field of a bound as one of its hypotheses."""
    return eqx.field(metadata={"hypothesis": True})


class AbstractBound(AbstractResult):
    """A number that is not exceeded where every hypothesis holds, and +inf where one fails.

    A bound is a pytree: it works under jit and vmap, for scalars and batches alike. Where a
    hypothesis fails the derivatives of ``value`` are 0, not NaN.
    """

    value: eqx.AbstractVar[Float[Array, "..."]]

    @property
    def hypotheses(self) -> dict[str, Bool[Array, "..."]]:
        """The hypotheses by name, each saying where it held."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if f.metadata.get("hypothesis")}

    @property
    def holds(self) -> Bool[Array, "..."]:
        """Where every hypothesis held."""
        flags = self.hypotheses.values()
        return jnp.broadcast_to(all_true(flags), jnp.shape(self.value))

    def __repr__(self) -> str:
        return printed(self, "holds")

    @classmethod
    def guarded(cls, value: Float[Array, "..."], dtype: jnp.dtype, **fields: Any) -> Any:
        """The bound whose value is ``value`` where its hypotheses hold and +inf elsewhere."""
        names = {f.name for f in dataclasses.fields(cls) if f.metadata.get("hypothesis")}
        holds = all_true([flag for name, flag in fields.items() if name in names])
        return cls(value=jnp.where(holds, value, jnp.inf).astype(dtype), **fields)
