"""The one reading of an argument `symmetries`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from .._checks import require
from ..actions import Action
from ._report import Symmetry

Acting: TypeAlias = Action | Symmetry | Iterable[Any]
"""An action, a `Symmetry`, what `find_symmetries` returns, or any iterable of these."""


def resolve(
    symmetries: Acting, approximate: bool = False, *, name: str = "symmetries"
) -> tuple[Symmetry, ...]:
    """The symmetries that an argument ``symmetries`` stands for, in their order (host-only).

    Every function with such an argument reads it by this: an action, a `Symmetry`, what
    `symjax.find_symmetries` returns, or an iterable of these, nested or a generator. Those that
    hold only up to a norm's epsilon are left out unless ``approximate``, wherever they stand:
    moving along them changes the function. So an element has an entry for each symmetry of
    ``resolve(symmetries, approximate)``. An action comes back as a `Symmetry` named after its
    position and group, and counts as exact.

    Raises ValueError for anything else, naming its place; ``name`` is the argument to be named.

    Example:
        >>> import symjax
        >>> action = symjax.rescaling_action()
        >>> rough = symjax.Symmetry("scale before a norm", action, ("0",), exact=False)
        >>> [s.name for s in resolve([action, [rough]])]
        ['action 0 (PositiveScaling)']
        >>> [s.name for s in resolve([action, [rough]], approximate=True)]
        ['action 0 (PositiveScaling)', 'scale before a norm']
    """
    require(
        isinstance(approximate, bool), f"`approximate` must be True or False, got {approximate!r}."
    )
    found = [
        item if isinstance(item, Symmetry) else _named(item, i)
        for i, item in enumerate(_flat(symmetries, name))
    ]
    return tuple(s for s in found if s.exact or approximate)


def _flat(item: Any, place: str) -> Iterator[Any]:
    """The actions and symmetries in an argument, one after the other."""
    if isinstance(item, Symmetry) or is_action(item):
        yield item
        return
    # A string holds strings, a dictionary its keys, an array numbers: none is a list of symmetries.
    several = isinstance(item, Iterable) and not isinstance(item, str | bytes | Mapping)
    require(
        several and not hasattr(item, "dtype"),
        f"`{place}` must be an action, a symjax.Symmetry, or an iterable of these, got "
        f"{type(item).__name__}.",
    )
    for i, inner in enumerate(item):
        yield from _flat(inner, f"{place}[{i}]")


def is_action(item: Any) -> bool:
    """Whether an object is an action: it has a group, and can be called."""
    return callable(item) and hasattr(item, "group")


def _named(action: Any, position: int) -> Symmetry:
    legs = getattr(action, "legs", ())
    leaves = tuple(dict.fromkeys(str(leg.leaf) for leg in legs))
    return Symmetry(f"action {position} ({type(action.group).__name__})", action, leaves)
