"""Each study: its pieces against something independent, and a small run through the runner."""

import contextlib
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.studies import (
    STUDIES,
    _load,
    _runner,
    _stored,
    curvature,
    digits,
    figure1,
    figure2,
    figure3b,
    figure4,
    merging,
    minima,
)
from symjax.studies._dataset import Stored
from symjax.studies._sampling import measure

SMALL = {
    "figure1": {"minima": 30},
    "figure2": {"networks": 10},
    "figure3b": {"curves": 2, "steps": 400, "samples": 40},
    "figure3c": {"curves": 2, "steps": 400, "samples": 40},
    "figure4": {"networks": 2, "scales": 4, "steps": 50},
    "curvature": {"networks": 60},
    "figure3a": {"networks": 12, "largest": 14, "steps": 40},
    "components": {"cases": 30, "paths": 8},
    "minima": {"pairs": 40, "steps": 1500, "paths": 3},
    "digits": {"curves": 2, "steps": 150},
    "merging": {"pairs": 1, "steps": 150, "refining": 20},
}
FAILS = {"Thm. 6.2 as printed"}
"""Statements that are expected not to hold."""


@contextlib.contextmanager
def log_compiles():
    """As `jax.log_compiles`, which holds for its own thread only."""
    jax.config.update("jax_log_compiles", True)
    yield
    jax.config.update("jax_log_compiles", False)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SMALL))
def test_every_study_runs_and_its_statements_hold(name, tmp_path, caplog):
    module = _load.load(name)
    seen = []
    # Optax's Adam raises a float to an integer step count, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard" if name == "digits" else "strict"), log_compiles():
        result = _runner.run_study(
            name, module.Config(**SMALL[name]), tmp_path, None, lambda f, _: seen.append(f)
        )
    programs = _load.networks_of(module, module.Config(**SMALL[name])).programs
    compiled = [x for x in caplog.messages if x.startswith("Compiling jit(on_device)")]
    assert len(compiled) == len(programs)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert {s.name for s in result.statements if not s.held} <= FAILS
    assert (name == "curvature") == any(not s.held for s in result.statements)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert all(array["axes_and_unit"] for array in manifest["arrays"].values())
    # The figure needs nothing but what is on disk.
    assert module.draw(Stored(tmp_path / "data.zarr")).axes
    if hasattr(module, "look"):
        assert _stored.look(tmp_path).read_text().count('class="panel"') in (1, 2)


@pytest.mark.slow
def test_the_seed_decides_every_number():
    config = figure2.Config(seed=3, networks=4)
    runs = [measure(figure2.study(config)) for _ in range(2)]
    for key, values in runs[0].items():
        np.testing.assert_array_equal(values, runs[1][key])
    other = measure(figure2.study(figure2.Config(seed=4, networks=4)))
    assert (other["m"] != runs[0]["m"]).all()


@pytest.mark.parametrize("name", list(STUDIES))
def test_configurations_are_documented_and_start_with_the_seed(name):
    import dataclasses
    import inspect

    config = importlib.import_module(f"symjax.studies.{name}").Config
    fields = [field.name for field in dataclasses.fields(config)]
    assert fields[0] == "seed"
    assert config() == config(seed=0)
    own = [base for base in config.__mro__ if base is not object]
    source = "".join(inspect.getsource(base) for base in own)
    for field in fields:
        following = source.split(f"    {field}:", 1)[1].split("\n", 2)[1]
        assert following.strip().startswith('"""'), field


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (figure1, {"minima": 1}),
        (figure1, {"extent": 0.5}),
        (figure2, {"networks": 1}),
        (figure3b, {"samples": 32}),
        (figure3b, {"scale": 0.0}),
        (figure4, {"largest": 1.0}),
        (curvature, {"networks": 0}),
        (minima, {"pairs": 0}),
        (digits, {"steps": 0}),
        (merging, {"pairs": 0}),
        (merging, {"restarts": -1}),
        (merging, {"refining": 0}),
    ],
)
def test_options_out_of_range_are_named(module, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must"):
        module.Config(**options)


@pytest.mark.parametrize(("skip", "components"), [(0.0, 4), (1.0, 3), (-0.7, 3)])
def test_components_of_the_minimum_by_merging_grid_points(skip, components):
    assert figure1._count_on_grid(skip) == components


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_drawn_sheets_lie_on_the_minimum_and_within_the_frame(skip):
    sheets = figure1._sheets(skip, 4.0)
    assert len(sheets) == (3 if skip else 4)
    for w1, w2, w3 in sheets:
        np.testing.assert_allclose(w3 * (w1 * w2 + skip), 1, rtol=1e-12)
        assert max(np.abs(w).max() for w in (w1, w2, w3)) <= 4 * (1 + 1e-12)
        # One component: w3 has one sign, and without the skip so do the others.
        assert len(np.unique(np.sign(w3))) == 1


def test_distance_to_a_broken_line_is_that_to_the_arc_it_follows():
    with jax.enable_x64(True):
        angle = jnp.linspace(0.0, 2.0, 97)
        arc = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        middle = (arc[0] + arc[-1]) / 2
        sagitta = 1 - np.cos(1.0)
        # Within kappa step^2 / 8, as the study states.
        assert abs(curvature._distance(middle, arc) - sagitta) <= (2 / 96) ** 2 / 8


def test_the_network_of_figure_4_has_the_degree_it_says():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        weights = [jax.random.normal(k, (4, 4)) for k in keys]
        x = jnp.eye(4)
        for degree in figure4.DEGREES:
            _, apply = figure4.network(degree)
            scaled = apply((weights[0], 3.0 * weights[1], weights[2]), x)
            np.testing.assert_allclose(scaled, 3.0**degree * apply(tuple(weights), x), rtol=1e-12)


@pytest.mark.slow
def test_the_symmetry_of_the_digits_network_leaves_its_outputs():
    keys = iter(jax.random.split(jax.random.key(1), 8))
    params = {
        name: {
            "weight": jax.random.normal(next(keys), (rows, columns)),
            "bias": jax.random.normal(next(keys), (rows,)),
        }
        for name, columns, rows in zip(
            ("first", "second", "last"), digits.WIDTHS[:-1], digits.WIDTHS[1:], strict=True
        )
    }
    action = digits.symmetry()
    x = jax.random.normal(next(keys), (64, 5))
    moved = action(action.group.random(next(keys), scale=1.0), params)
    before, after = digits.logits(params, x), digits.logits(moved, x)
    # float32, sums of 64 products twice: a few hundred eps of the largest output.
    assert jnp.abs(after - before).max() < 300 * 1.2e-7 * jnp.abs(before).max()
    assert not jnp.allclose(moved["first"]["bias"], params["first"]["bias"])
