"""What the transformations check alike."""

from jaxtyping import PyTree

from .._checks import require


def require_params(name: str, params: PyTree) -> PyTree:
    """The parameters; ValueError where the caller of ``update`` left them out."""
    require(
        params is not None,
        f"`params` must be passed to update: {name} needs update(updates, state, params).",
    )
    return params


def require_positive(name: str, value: float) -> None:
    """ValueError unless a static option is a positive number."""
    require(
        isinstance(value, int | float) and 0 < value < float("inf"),
        f"`{name}` must be a positive number, got {value!r}.",
    )


def require_count(name: str, value: int) -> None:
    """ValueError unless a static option is a positive integer."""
    require(
        isinstance(value, int) and value >= 1,
        f"`{name}` must be a positive integer, got {value!r}.",
    )
