"""Actions: how an element of a group moves a pytree of parameters.

Nearly every symmetry of a network is linear in the parameters for a fixed element: the element
multiplies some axis of some leaves. Such an action is a table, not code: a group and a tuple of
`Leg`, and one `LinearAction` walks any table. The map of eq. (6), which depends on data and is not
a group action, has a class of its own.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._checks import describe, is_floating, path_name, require, require_concrete
from .groups import (
    AbstractGroup,
    Algebra,
    Element,
    GeneralLinear,
    PositiveScaling,
    Product,
    Representation,
)
from .linalg._precision import computing_dtype, mm


class Leg(eqx.Module):
    """One place that a group element touches: an axis of a leaf, and how it moves there.

    ``leaf`` names a leaf by its path (``"layers/0/weight"``) or by its position in the flattened
    parameters (negative counts from the end). ``axis`` None moves the whole leaf and is for a
    scalar scaling. ``factor`` is the index of the group in a product.
    """

    leaf: str | int = eqx.field(static=True)
    axis: int | None = eqx.field(static=True, default=0)
    representation: Representation = eqx.field(static=True, default="vector")
    factor: int = eqx.field(static=True, default=0)


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
        elements = self._entries(g)
        return self._walk(params, elements, lambda group, e, x, how: group.act(e, x, how))

    def generator(self, m: Algebra, params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0: a tangent vector, zero in the leaves that do not move."""
        self._check_element("m", m)
        entries = self._entries(m)
        leaves, structure = jax.tree.flatten(params)
        places = self.places(params)
        tangents = [jnp.zeros_like(x) if hasattr(x, "dtype") else x for x in leaves]
        dtypes = [getattr(leaf, "dtype", None) for leaf in leaves]
        for leg, place in zip(self.legs, places, strict=True):
            group, entry = self.factors[leg.factor], entries[leg.factor]
            moved = _along(
                leg.axis,
                _widen(leaves[place]),
                lambda x, group=group, entry=entry, leg=leg: group.act_algebra(
                    _cast(entry, x), x, leg.representation
                ),
            )
            tangents[place] = _widen(tangents[place]) + moved
        for place in set(places):
            tangents[place] = tangents[place].astype(dtypes[place])
        return jax.tree.unflatten(structure, tangents)

    def flow(self, generators: Sequence[Algebra], params: PyTree) -> PyTree:
        """exp(m_1) exp(m_2) ... . params, without ever inverting an exponential."""
        for m in reversed(generators):
            self._check_element("m", m)
            g, inverse = self.group.exp(m), self.group.exp(jax.tree.map(jnp.negative, m))
            pairs = list(zip(self._entries(g), self._entries(inverse), strict=True))
            params = self._walk(
                params, pairs, lambda group, pair, x, how: group.act(pair[0], x, how, pair[1])
            )
        return params

    @property
    def factors(self) -> tuple[AbstractGroup, ...]:
        """The groups that legs refer to by index."""
        return self.group.groups if isinstance(self.group, Product) else (self.group,)

    def places(self, params: PyTree) -> tuple[int, ...]:
        """The position of each leg's leaf; raises ValueError where the table does not fit."""
        flat = jax.tree_util.tree_flatten_with_path(params)[0]
        names = {path_name(path): i for i, (path, _) in enumerate(flat)}
        return tuple(self._place(leg, names, [leaf for _, leaf in flat]) for leg in self.legs)

    def restrict(self, params: PyTree) -> tuple["LinearAction", tuple[Array, ...]]:
        """The same action on the tuple of the leaves that it moves, widened for computing."""
        rows = [
            (leg, place)
            for leg, place in zip(self.legs, self.places(params), strict=True)
            if self.factors[leg.factor].dimension  # a finite group has no curves
        ]
        moved = sorted({place for _, place in rows})
        leaves = jax.tree.leaves(params)
        legs = tuple(
            Leg(moved.index(place), leg.axis, leg.representation, leg.factor) for leg, place in rows
        )
        return LinearAction(self.group, legs), tuple(_widen(leaves[i]) for i in moved)

    def _entries(self, g):
        return tuple(g) if isinstance(self.group, Product) else (g,)

    def _walk(self, params, entries, move):
        leaves, structure = jax.tree.flatten(params)
        places = self.places(params)
        dtypes = [getattr(leaf, "dtype", None) for leaf in leaves]
        for leg, place in zip(self.legs, places, strict=True):
            group, entry = self.factors[leg.factor], entries[leg.factor]
            leaves[place] = _along(
                leg.axis,
                _widen(leaves[place]),
                lambda x, group=group, entry=entry, leg=leg: move(
                    group, _cast(entry, x), x, leg.representation
                ),
            )
        for place in set(places):
            leaves[place] = leaves[place].astype(dtypes[place])
        return jax.tree.unflatten(structure, leaves)

    def _place(self, leg, names, leaves):
        if isinstance(leg.leaf, str):
            require(
                leg.leaf in names,
                f"`params` has no leaf '{leg.leaf}'; its leaves are {sorted(names)}.",
            )
            place = names[leg.leaf]
        else:
            require(
                -len(leaves) <= leg.leaf < len(leaves),
                f"`params` has {len(leaves)} leaves; the action needs one at position {leg.leaf}.",
            )
            place = leg.leaf % len(leaves)
        name, leaf = list(names)[place], leaves[place]
        require(
            is_floating(leaf),
            f"`params` leaf '{name}' must be a floating array to be moved, got {describe(leaf)}.",
        )
        if leg.axis is not None:
            size = getattr(self.factors[leg.factor], "n", None)
            if size is not None and _counts_pairs(self.factors[leg.factor]):
                size = 2 * size
            require(
                -leaf.ndim <= leg.axis < leaf.ndim and leaf.shape[leg.axis] == size,
                f"`params` leaf '{name}' must have size {size} along axis {leg.axis}, "
                f"got {describe(leaf)}.",
            )
        return place

    def _check_element(self, name, g):
        got, want = jax.tree.structure(g), jax.tree.structure(expected := self._shapes(name))
        require(
            got == want,
            f"`{name}` must be {'a tuple of ' if isinstance(self.group, Product) else ''}"
            f"arrays for {self.group} (structure {want}), got structure {got}.",
        )
        for entry, like in zip(jax.tree.leaves(g), jax.tree.leaves(expected), strict=True):
            require(
                jnp.shape(entry) == like.shape,
                f"`{name}` must have an entry of shape {like.shape} for {self.group}, got shape "
                f"{jnp.shape(entry)}; for a batch of elements, vmap the action.",
            )

    def _shapes(self, name):
        if name == "g":
            return jax.eval_shape(self.group.identity)
        return jax.eval_shape(self.group.random_algebra, jax.random.key(0))


def _counts_pairs(group):
    return type(group).__name__ == "ComplexScaling"


def _widen(leaf):
    return leaf.astype(computing_dtype(leaf.dtype))


def _cast(entry, x):
    """An element in the dtype of the leaf it moves; integer entries (permutations) stay."""
    cast = lambda e: e.astype(x.dtype) if is_floating(e) else e
    return jax.tree.map(lambda e: cast(jnp.asarray(e)), entry)


def _along(axis, leaf, move):
    """Apply a map of (n, k) arrays along one axis of a leaf."""
    if axis is None:
        return move(leaf.reshape(1, -1)).reshape(leaf.shape)
    front = jnp.moveaxis(leaf, axis, 0)
    return jnp.moveaxis(move(front.reshape(front.shape[0], -1)).reshape(front.shape), 0, axis)


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
    factors = len(group.groups) if isinstance(group, Product) else 1
    seen = set()
    for i, leg in enumerate(legs):
        require(isinstance(leg, Leg), f"`legs[{i}]` must be a symjax.Leg, got {leg!r}.")
        require(
            0 <= leg.factor < factors,
            f"`legs[{i}].factor` must be below {factors}, got {leg.factor}.",
        )
        require(
            (leg.leaf, leg.axis) not in seen,
            f"`legs[{i}]`: axis {leg.axis} of leaf {leg.leaf!r} is already moved by another leg.",
        )
        seen.add((leg.leaf, leg.axis))
    return LinearAction(group, legs)


def deep_linear_action(widths: Sequence[int]) -> LinearAction:
    """The change of basis of every hidden layer of a linear network.

    g.(W_1, ..., W_l) = (g_1 W_1, g_2 W_2 g_1^-1, ..., W_l g_(l-1)^-1), a left action of
    GL(d_1) x ... x GL(d_(l-1)). ``widths`` is (d_0, ..., d_l); parameters are the tuple of W_i of
    shape (d_i, d_(i-1)). The product W_l ... W_1 does not change.

    Raises ValueError unless there are at least two widths, all positive integers.

    Paper: Eq. (1).

    Example:
        >>> action = deep_linear_action((2, 3, 2))
        >>> action.group.dimension
        9
    """
    widths = tuple(widths)
    require(
        len(widths) >= 2 and all(isinstance(d, int) and d >= 1 for d in widths),
        f"`widths` must be two or more positive integers (d_0, ..., d_l), got {widths}.",
    )
    hidden = range(1, len(widths) - 1)
    sides: tuple[tuple[int, Representation], ...] = ((0, "vector"), (1, "covector"))
    legs = [Leg(i - 1 + side, side, how, i - 1) for i in hidden for side, how in sides]
    return linear_action(Product([GeneralLinear(widths[i]) for i in hidden]), legs)


def _require_degree(degree: float) -> None:
    require(
        isinstance(degree, int | float) and 0 < degree < float("inf"),
        f"`degree` must be a positive number, the k of sigma(cz) = c^k sigma(z), got {degree!r}.",
    )


def rescaling_action(degree: float = 1) -> LinearAction:
    """The rescaling of the last two layers around an activation with sigma(cz) = c^k sigma(z).

    m.(..., W_(l-1), W_l) = (..., m W_(l-1), m^-k W_l) for a scalar m > 0 and k = ``degree``. The
    parameters are any pytree whose last two leaves are W_(l-1) and W_l. As printed, Prop. 5.3 asks
    sigma(cz) = c^k sigma(z) for all real c, which excludes ReLU; positive c is all that is used.

    Raises ValueError for a degree that is not positive.

    Example:
        >>> action = rescaling_action(1)
        >>> [w.item() for w in action(jnp.array(2.0), (jnp.ones((1, 1)), jnp.ones((1, 1))))]
        [2.0, 0.5]
    """
    _require_degree(degree)
    legs = [Leg(-2, None, 1.0), Leg(-1, None, -float(degree))]
    return linear_action(PositiveScaling(), legs)


def neuron_rescaling_action(width: int, degree: float = 1) -> LinearAction:
    """One scale for each of ``width`` hidden units: (D W_(l-1), W_l D^-k) with D = diag(c), c > 0.

    The last two leaves of the parameters are W_(l-1), of shape (width, ...), and W_l, of shape
    (..., width). For leaves in other places, or biases, see `linear_action`.

    Raises ValueError for a width or a degree that is not positive.

    Example:
        >>> neuron_rescaling_action(5).group.dimension
        5
    """
    _require_degree(degree)
    return linear_action(PositiveScaling(width), [Leg(-2, 0, 1.0), Leg(-1, 1, -float(degree))])


class DataAction(eqx.Module):
    """The map of eq. (6); see `data_action`."""

    sigma: Callable[[Array], Array] = eqx.field(static=True)
    x: Float[Array, "n k"]
    rtol: float | None = eqx.field(static=True, default=None)

    @property
    def is_group_action(self) -> bool:
        """False: g.(h.w) and (gh).w differ, and the identity moves w where k < h."""
        return False

    @property
    def group(self) -> GeneralLinear:
        """GL(h), its size open: the hidden width is that of the parameters."""
        return GeneralLinear(None)

    def __call__(
        self, g: Float[Array, "h h"], params: tuple[Float[Array, "h n"], Float[Array, "m h"]]
    ) -> tuple[Float[Array, "h n"], Float[Array, "m h"]]:
        """(g V, U sigma(VX) sigma(gVX)^+); NaN for a singular g under jit, ValueError outside."""
        v, u = self._check(g, params)
        require_concrete(
            lambda: self.group.contains(g),
            lambda: "`g` is singular or not finite; the map needs an invertible matrix.",
            g,
        )
        moved = mm(g.astype(v.dtype), v)
        before, after = self.sigma(mm(v, self.x)), self.sigma(mm(moved, self.x))
        return moved, mm(mm(u, before), jnp.linalg.pinv(after, rtol=self.rtol))

    def generator(self, m: Float[Array, "h h"], params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0."""
        identity = jnp.eye(m.shape[0], dtype=m.dtype)
        return jax.jvp(lambda g: self(g, params), (identity,), (m,))[1]

    def flow(self, generators: Sequence[Float[Array, "h h"]], params: PyTree) -> PyTree:
        """(exp(m_1) exp(m_2) ...).params: one application to the product, which is what (5) says.

        Applying the factors in turn would give another point: the map is not a group action.
        """
        return self(functools.reduce(self.group.compose, map(self.group.exp, generators)), params)

    def _check(self, g, params):
        require(
            isinstance(params, tuple | list) and len(params) == 2,
            f"`params` must be the pair (V, U), got {type(params).__name__}.",
        )
        v, u = params
        for name, leaf in (("V", v), ("U", u)):
            require(
                is_floating(leaf) and leaf.ndim == 2,
                f"`params` leaf {name} must be a floating matrix, got {describe(leaf)}.",
            )
        h = v.shape[0]
        require(
            u.shape[1] == h and v.shape[1] == self.x.shape[0],
            f"`params` must be V (h, n) and U (m, h) with `x` (n, k), got V {v.shape}, "
            f"U {u.shape} and x {self.x.shape}.",
        )
        require(jnp.shape(g) == (h, h), f"`g` must have shape {(h, h)}, got {jnp.shape(g)}.")
        return v, u


def data_action(
    sigma: Callable[[Array], Array], x: Float[Array, "n k"], *, rtol: float | None = None
) -> DataAction:
    """The data-dependent map g.(V, U) = (g V, U sigma(VX) sigma(gVX)^+) on a two-layer network.

    ``x`` holds one sample per column. The network is U sigma(V X). This is not a group action: the
    composition law fails, and with fewer samples than hidden units the identity does not even fix
    the parameters (with rank sigma(VX) = h it does). The change of the output is bounded by
    `symjax.bounds.output_change`; it is zero where sigma(gVX) has rank k. ``rtol`` is the relative
    cut of the pseudo-inverse, whose default depends on the shape.

    Raises ValueError for an ``x`` that is not a floating matrix.

    Paper: Eq. (6).

    Example:
        >>> action = data_action(jax.nn.sigmoid, jnp.ones((2, 5)))
        >>> action.is_group_action
        False
    """
    require(
        is_floating(x) and x.ndim == 2,
        f"`x` must be a floating matrix with one sample per column, got {describe(x)}.",
    )
    return DataAction(sigma, x, rtol)


Action = LinearAction | DataAction


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
        if places.count(place) > 1:
            continue
        leaf, group = leaves[place], action.factors[leg.factor]
        front = leaf.reshape(1, -1) if leg.axis is None else jnp.moveaxis(leaf, leg.axis, 0)
        small[place] = group.compress(front.reshape(front.shape[0], -1))
        axis = None if leg.axis is None else 0
        legs[j] = Leg(place, axis, leg.representation, leg.factor)
    return LinearAction(action.group, tuple(legs)), tuple(small)
