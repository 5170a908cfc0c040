"""Discovery on the zoo: every symmetry holds, and none is missing but for those that are named."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.discovery import _find

from ..helpers import slow_among
from ._reference import changes, coarsest
from .zoo import CASES, FAMILIES, case

pytestmark = pytest.mark.usefixtures("x64")

#: What is found where it is less than there is. Each with the reason.
SHORT = {
    # exp(x + a) = e^a exp(x): a shift that becomes a scale.
    "exponential": 0,
    # Dimensions without rotation among rotary pairs: GL of them.
    "rotary_zero_frequency_bias": 24,
    # Pairs that turn by one angle: GL(2) and the complex scales are found, of GL(2) over C.
    "rotary_equal_frequencies": 22,
    # A gain between a norm and a stream that passes it by.
    "post_layer_norm": 12,
    # An index that runs backwards is not seen to be the same one.
    "reversed": 1,
}


#: Models of which the finite symmetries are not counted as recorded. Each with the reason.
FINITE_APART = {
    # -1 on the hyperplane that a layer norm leaves is listed beside its rotations.
    "layer_norm_plain",
    # As in SHORT.
    "reversed",
}


def found(name):
    apply, params, inputs = case(name).build(jax.random.key(0))
    return symjax.find_symmetries(apply, params, *inputs)


def miscounted(model, symmetries):
    """What differs from the recorded permutations, sign flips and approximate dimension."""
    found, signs = [], 0
    for s in symmetries.exact:
        power = isinstance(s.group, symjax.Power)
        group, count = (s.group.group, s.group.count) if power else (s.group, 1)
        if isinstance(group, symjax.Permutation) and group.n > 1:
            found += [group.n] * count
        if isinstance(group, symjax.SignFlip):
            signs += group.n * count
    if model.permutations is not None and model.name not in FINITE_APART:
        if sorted(found) != sorted(model.permutations):
            yield f"permutations {found}, not {model.permutations}"
    if model.signs is not None and model.name not in FINITE_APART and signs != model.signs:
        yield f"{signs} sign flips, not {model.signs}"
    both = symmetries.dimension + symmetries.approximate_dimension
    if model.approximate is not None and both != model.approximate:
        yield f"dimension {both} up to epsilon, not {model.approximate}"


@pytest.mark.parametrize("family", slow_among(FAMILIES, "transformers", "recurrent", "frameworks"))
def test_every_symmetry_holds_and_their_number_is_that_of_the_table(family):
    wrong = []
    for model in FAMILIES[family]:
        apply, params, inputs = model.build(jax.random.key(0))
        symmetries = symjax.find_symmetries(apply, params, *inputs)
        for s, residual in changes(symmetries.exact, apply, params, inputs):
            if not residual <= 1000 * coarsest(params):
                wrong.append(f"{model.name}: {s.name} of {s.leaves} changes by {residual:.1e}")
        expected = SHORT.get(model.name, model.dimension)
        # A lower bound may be exceeded: the Jacobian does not say the truth there.
        enough = symmetries.dimension == expected or (
            not model.equality and symmetries.dimension > expected
        )
        if not enough:
            wrong.append(f"{model.name}: dimension {symmetries.dimension}, not {expected}")
        moved = {leaf for s in symmetries for leaf in s.leaves}
        wrong += [f"{model.name}: moves {leaf}" for leaf in set(model.frozen) & moved]
        wrong += [f"{model.name}: {what}" for what in miscounted(model, symmetries)]
        kinds = {type(s.group).__name__ for s in symmetries}
        wrong += [f"{model.name}: has {k}" for k in set(model.forbidden) & kinds]
    assert wrong == []


def test_the_models_that_fall_short_are_few_and_do():
    assert len(SHORT) <= len(CASES) / 16
    for name, dimension in SHORT.items():
        assert dimension < case(name).dimension, name


def test_shapes_are_enough():
    apply, params, inputs = case("gpt2").build(jax.random.key(0))
    shapes = jax.eval_shape(lambda: params)
    abstract = symjax.find_symmetries(apply, shapes, *jax.eval_shape(lambda: inputs))
    assert abstract.as_dict() == found("gpt2").as_dict()


def test_leaves_that_are_not_read_to_the_end_are_held_fixed(monkeypatch):
    """Rather than some that are none: a reading finds that v falls into halves."""

    def halves(p, x):
        return p["u"] @ jax.nn.relu(jnp.concatenate([p["v"][:2] @ x, 2 * p["v"][2:] @ x]))

    params = {"v": jnp.ones((4, 3)), "u": jnp.ones((2, 4))}
    assert len(symjax.find_symmetries(halves, params, jnp.ones(3))) == 4
    monkeypatch.setattr(_find, "MOST_READINGS", 0)
    unfinished = symjax.find_symmetries(halves, params, jnp.ones(3))
    assert all("v" not in s.leaves for s in unfinished)
    assert unfinished.unknown["slice (too many pieces)"] == ("v",)
    assert unfinished.lost == 1


def test_the_table_can_be_read():
    text = str(found("gpt2"))
    assert text.splitlines()[0].split() == [
        *["symmetry", "group", "dim", "components", "holds", "leaves"]
    ]
    assert "GL(2)^2" in text
    assert text.splitlines()[-1].startswith("group dimension 104")


def test_the_report_is_plain_data():
    def is_plain(x):
        if isinstance(x, dict):
            return all(isinstance(k, str) and is_plain(v) for k, v in x.items())
        return all(map(is_plain, x)) if isinstance(x, list) else type(x) in (str, int, float, bool)

    data = found("gpt2").as_dict()
    assert is_plain(data)
    assert json.loads(json.dumps(data)) == data


def test_the_report_is_drawn_as_a_tree():
    treescope = pytest.importorskip("treescope")
    symmetries = found("leaky")
    text = treescope.render_to_text(symmetries.as_dict())
    assert "'rescaling'" in text
    assert "treescope" in treescope.render_to_html(symmetries.as_dict())


def test_no_more_directions_are_claimed_than_parameters():
    """GL(10) between two narrow ends acts on 40 entries, by a stabiliser of (10 - 2)^2."""
    rng = np.random.default_rng(0)
    params = {n: jnp.asarray(rng.standard_normal(s)) for n, s in (("w", (10, 2)), ("u", (2, 10)))}
    linear = lambda p, x: p["u"] @ (p["w"] @ x)
    wide = symjax.find_symmetries(linear, params, jnp.ones(2))
    assert (wide.dimension, wide.most_directions) == (100, 40)
    assert str(wide).splitlines()[-2:] == ["group dimension 100", "orbit dimension at most 40"]
    assert symjax.canonical.orbit_dimension(wide, params).orbit == 100 - 8 * 8

    def centred(p, x):
        return p["u"] @ (p["w"] @ x - jnp.mean(p["z"] @ x))

    params = {"w": jnp.ones((4, 3)), "z": jnp.ones((4, 3)), "u": jnp.ones((3, 4))}
    several = symjax.find_symmetries(centred, params, jnp.ones(3))
    assert several.dimension > several.most_directions == 9 + 12 + 1 + 3
    assert several.as_dict()["most_directions"] == 25

    assert found("gpt2").most_directions == found("gpt2").dimension


def test_what_is_not_understood_is_named_and_does_not_move():
    def apply(p, x):
        return jnp.linalg.slogdet(p["w"])[1] * x + p["b"].sum()

    params = {"w": jnp.ones((3, 3)), "b": jnp.ones(2)}
    symmetries = symjax.find_symmetries(apply, params, jnp.ones(3))
    assert symmetries.unknown == {"lu": ("w",)}
    assert all("w" not in s.leaves for s in symmetries)
    assert "not understood: lu" in str(symmetries)
