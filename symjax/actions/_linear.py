"""Linear actions: a group and a table of legs."""

from collections.abc import Iterable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import describe, is_floating, path_name, require, require_concrete
from ..groups import AbstractGroup, Algebra, Element
from ..linalg._precision import computing_dtype
from ._legs import Gain, Leg


class LinearAction(eqx.Module):
    """A group and the legs it moves: ``action(g, params) -> params``.

    Returned parameters keep structure, shapes and dtypes; leaves without a leg come back as they
    are. Half-precision leaves are computed in float32.
    """

    group: AbstractGroup
    legs: tuple[Leg, ...]

    @property
    def is_group_action(self) -> bool:
        """True: the identity acts trivially and g.(h.w) = (gh).w."""
        return True

    def __call__(self, g: Element, params: PyTree) -> PyTree:
        """Move the parameters by one element.

        Raises ValueError for an element or parameters that do not fit; for a concrete ``g`` that is
        not in the group (a singular matrix, a scale of zero). Under jit such a ``g`` gives NaN.
        """
        self._check_element("g", g)
        require_concrete(
            lambda: self.group.contains(g),
            lambda: f"`g` is not an element of {self.group}: singular, non-positive or not finite.",
            g,
        )
        elements = self.group.entries(g)
        return self._walk(params, elements, lambda group, e, x, how: group.act(e, x, how))

    def generator(self, m: Algebra, params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0: a tangent vector, zero in the leaves that do not move."""
        self._check_element("m", m)
        entries = self.group.entries(m)
        leaves, structure = jax.tree.flatten(params)
        places = self.places(params)
        tangents = [jnp.zeros_like(x) if hasattr(x, "dtype") else x for x in leaves]
        dtypes = [getattr(leaf, "dtype", None) for leaf in leaves]
        for leg, place in zip(self.legs, places, strict=True):
            group, entry = self.factors[leg.factor], entries[leg.factor]
            leaf, tangent = _widen(leaves[place]), _widen(tangents[place])
            moved = _conjugated(
                leg,
                leaf,
                self._gains(leg, leaves, params),
                lambda x, group=group, entry=entry, leg=leg: group.act_algebra(
                    _cast(entry, x), x, leg.representation
                ),
            )
            tangents[place] = leg.write(tangent, leg.read(tangent) + moved)
        for place in set(places):
            tangents[place] = tangents[place].astype(dtypes[place])
        return jax.tree.unflatten(structure, tangents)

    def flow(self, generators: Sequence[Algebra], params: PyTree) -> PyTree:
        """exp(m_1) exp(m_2) ... . params, without ever inverting an exponential."""
        for m in reversed(generators):
            self._check_element("m", m)
            g, inverse = self.group.exp(m), self.group.exp(jax.tree.map(jnp.negative, m))
            pairs = list(zip(self.group.entries(g), self.group.entries(inverse), strict=True))
            params = self._walk(
                params, pairs, lambda group, pair, x, how: group.act(pair[0], x, how, pair[1])
            )
        return params

    def majorant(self, m: Algebra, params: PyTree) -> PyTree:
        """Entry by entry at least |exp(m).x| for every x with |x| <= params; legs without gains."""
        self._check_element("m", m)
        return self._walk(
            params, self.group.entries(m), lambda group, e, x, how: group.majorant(e, x, how)
        )

    @property
    def factors(self) -> tuple[AbstractGroup, ...]:
        """The groups that legs refer to by index."""
        return self.group.factors

    def places(self, params: PyTree) -> tuple[int, ...]:
        """The position of each leg's leaf; raises ValueError where the table does not fit."""
        names, leaves = leaf_names(params), jax.tree.leaves(params)
        return tuple(self._place(leg, names, leaves) for leg in self.legs)

    def _gains(self, leg, leaves, params):
        """The diagonal of a leg's gains; None without any."""
        if not leg.gains:
            return None
        names = leaf_names(params)
        own = [_widen(leaves[find_leaf(gain.leaf, names)]) for gain in leg.gains]
        return leg.diagonal(leaves[find_leaf(leg.leaf, names)], own)

    def restrict(self, params: PyTree) -> tuple["LinearAction", tuple[Array, ...]]:
        """The same action on the tuple of the leaves that it moves, widened for computing."""
        rows = [
            (leg, place)
            for leg, place in zip(self.legs, self.places(params), strict=True)
            if self.factors[leg.factor].dimension  # a finite group has no curves
        ]
        leaves = jax.tree.leaves(params)
        names = leaf_names(params)
        gains = {id(gain): find_leaf(gain.leaf, names) for leg, _ in rows for gain in leg.gains}
        moved = sorted({place for _, place in rows} | set(gains.values()))
        legs = []
        for leg, place in rows:
            own = tuple(
                Gain(moved.index(gains[id(g)]), g.block, g.axes, g.power, g.scale, g.offset)
                for g in leg.gains
            )
            representation, factor = leg.representation, leg.factor
            number = moved.index(place)
            legs.append(Leg(number, leg.axis, representation, factor, leg.block, own))
        return LinearAction(self.group, tuple(legs)), tuple(_widen(leaves[i]) for i in moved)

    def _walk(self, params, entries, move):
        leaves, structure = jax.tree.flatten(params)
        places = self.places(params)
        dtypes = [getattr(leaf, "dtype", None) for leaf in leaves]
        for leg, place in zip(self.legs, places, strict=True):
            group, entry = self.factors[leg.factor], entries[leg.factor]
            leaf = _widen(leaves[place])
            moved = _conjugated(
                leg,
                leaf,
                self._gains(leg, leaves, params),
                lambda x, group=group, entry=entry, leg=leg: move(
                    group, _cast(entry, x), x, leg.representation
                ),
            )
            leaves[place] = leg.write(leaf, moved)
        for place in set(places):
            leaves[place] = leaves[place].astype(dtypes[place])
        return jax.tree.unflatten(structure, leaves)

    def _place(self, leg, names, leaves):
        place = find_leaf(leg.leaf, names)
        name, leaf = list(names)[place], leaves[place]
        require(
            is_floating(leaf),
            f"`params` leaf '{name}' must be a floating array to be moved, got {describe(leaf)}.",
        )
        if leg.axis is not None:
            size = self.factors[leg.factor].axis_size
            block = leg.block
            require(
                block is None or block.fits(leaf.shape),
                f"`params` leaf '{name}' has no part {block}, got {describe(leaf)}.",
            )
            rank = leaf.ndim if block is None else len(block.shape)
            inside = all(-rank <= a < rank for a in leg.axes)
            require(
                inside and int(np.prod(leg.rows(leaf.shape))) == size,
                f"`params` leaf '{name}' must have size {size} along axis {leg.axis}"
                f"{' of its part' if block is not None else ''}, got {describe(leaf)}.",
            )
        return place

    def _check_element(self, name, g):
        got, want = jax.tree.structure(g), jax.tree.structure(expected := self._shapes(name))
        require(
            got == want,
            f"`{name}` must be {'a tuple of ' if isinstance(expected, tuple) else ''}"
            f"arrays for {self.group} (structure {want}), got structure {got}.",
        )
        finite = name == "m" and self.group.dimension == 0
        hint = "it is finite and has no curves" if finite else "for a batch, vmap the action"
        for entry, like in zip(jax.tree.leaves(g), jax.tree.leaves(expected), strict=True):
            require(
                jnp.shape(entry) == like.shape,
                f"`{name}` must have an entry of shape {like.shape} for {self.group}, got shape "
                f"{jnp.shape(entry)}; {hint}.",
            )

    def _shapes(self, name):
        if name == "g":
            return jax.eval_shape(self.group.identity)
        return jax.eval_shape(self.group.random_algebra, jax.random.key(0))


def _widen(leaf):
    return leaf.astype(computing_dtype(leaf.dtype))


def _cast(entry, x):
    """An element in the dtype of the leaf it moves; integer entries (permutations) stay."""
    cast = lambda e: e.astype(x.dtype) if is_floating(e) else e
    return jax.tree.map(lambda e: cast(jnp.asarray(e)), entry)


def _conjugated(leg, leaf, diagonal, move):
    """What a map of rows makes of the rows of a leg, between a diagonal and its inverse."""
    rows = leg.read(leaf)
    if diagonal is None:
        return move(rows)
    diagonal = diagonal.astype(rows.dtype)
    return diagonal * move(rows / diagonal)


def leaf_names(params: PyTree) -> dict[str, int]:
    """The names of the leaves, with their positions."""
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return {path_name(path): i for i, (path, _) in enumerate(flat)}


def find_leaf(leaf: str | int, names: dict[str, int]) -> int:
    """The position of a leaf that is given by its name or its position."""
    if isinstance(leaf, str):
        require(leaf in names, f"`params` has no leaf '{leaf}'; its leaves are {sorted(names)}.")
        return names[leaf]
    require(
        -len(names) <= leaf < len(names),
        f"`params` has {len(names)} leaves; the action needs one at position {leaf}.",
    )
    return leaf % len(names)


def linear_action(group: AbstractGroup, legs: Iterable[Leg]) -> LinearAction:
    """An action given by its table: a group and the axes of leaves that it moves.

    Legs of one factor on different axes of a leaf, and of different factors, must commute: they do
    unless two legs share an axis.

    Example, the rescaling of the four hidden units of an Equinox MLP with ReLU:
        >>> from symjax import Leg, PositiveScaling, linear_action
        >>> mlp = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
        >>> legs = [Leg("layers/0/weight", 0), Leg("layers/0/bias", 0),
        ...         Leg("layers/1/weight", 1, "covector")]
        >>> action = linear_action(PositiveScaling(4), legs)
        >>> moved = action(jnp.array([1.0, 2.0, 3.0, 4.0]), mlp)
        >>> bool(jnp.allclose(moved(jnp.ones(2)), mlp(jnp.ones(2)), atol=1e-5))
        True

    Raises ValueError for a leg that is not a `Leg`, a factor that the group does not have, or two
    legs on one axis of one leaf.
    """
    legs = tuple(legs)
    factors = len(group.factors)
    seen = set()
    for i, leg in enumerate(legs):
        require(isinstance(leg, Leg), f"`legs[{i}]` must be a symjax.Leg, got {leg!r}.")
        require(
            0 <= leg.factor < factors,
            f"`legs[{i}].factor` must be below {factors}, got {leg.factor}.",
        )
        for axis in leg.axes or (None,):
            place = (leg.leaf, axis, leg.block)
            require(
                place not in seen,
                f"`legs[{i}]`: axis {axis} of leaf {leg.leaf!r} is already moved by another leg.",
            )
            seen.add(place)
    return LinearAction(group, legs)


def compress(
    action: LinearAction, leaves: tuple[Array, ...]
) -> tuple[LinearAction, tuple[Array, ...]]:
    """The action on smaller leaves whose vector fields have the same inner products.

    A leaf moved along one axis only is (n, k) to the group; where k is large an isometry of the k
    columns shrinks it, which changes no speed, curvature or length of an exponential curve.
    """
    places = action.places(leaves)
    small, legs = list(leaves), list(action.legs)
    for j, (leg, place) in enumerate(zip(action.legs, places, strict=True)):
        if places.count(place) > 1 or leg.gains:
            continue
        group = action.factors[leg.factor]
        small[place] = group.compress(leg.read(leaves[place]))
        axis = None if leg.axis is None else 0
        legs[j] = Leg(place, axis, leg.representation, leg.factor)
    return LinearAction(action.group, tuple(legs)), tuple(small)
