"""The study of components: its own minima, labels and grids, and a statement that is broken."""

import dataclasses

import jax
import numpy as np
import pytest

from symjax.studies import components, figure1
from symjax.studies._sampling import measure, sample

from ..topology.test_orbits import enumerated

SMALL = components.Config(cases=30, paths=8)


@pytest.fixture(scope="module")
def measured():
    return measure(components.study(SMALL), chunk=11)


@pytest.fixture(scope="module")
def result(measured):
    found = components.conclude(SMALL, measured)
    return dataclasses.replace(found, data={**measured, **found.data})


def test_a_case_depends_on_its_number_alone(measured):
    """Whatever the chunk and whatever comes before it."""
    (piece,) = sample(components.study(SMALL), start=26)
    assert (piece.start, piece.stop) == (26, 30)
    for name, values in piece.data.items():
        np.testing.assert_array_equal(values, measured[name][26:])


def test_every_statement_holds_and_a_broken_one_is_reported(result):
    assert all(s.held for s in result.statements)
    assert result.statements[0].networks == 30
    assert set(result.data) == set(result.units)
    for name, row in (("met", 0), ("path_error", 1), ("grid_count", 2), ("grid_formula", 3)):
        broken = {**result.data, name: result.data[name].copy()}
        broken[name][np.isfinite(broken[name])] += 1
        assert not components._statements(broken)[row].held
    broken = {**result.data, "kept_apart": 0 * result.data["kept_apart"]}
    assert not components._statements(broken)[1].held
    assert [len(axes.get_title()) > 0 for axes in result.figure(result.data).axes] == [True] * 3


def test_its_random_minima_are_minima_and_its_flips_change_labels():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        problem = components._problem(rng, 4)
        hidden = problem.widths[1:-1]
        # Eckart and Young: what rank r' leaves of Y within the rows of X, and what X cannot see.
        rows = np.linalg.svd(problem.x)[2][: problem.encode.shape[1]]
        inside = problem.y @ rows.T
        most = min(len(rows), *problem.widths[1:])
        lost = np.linalg.svd(inside, compute_uv=False)[most:]
        least = np.sum(lost**2) + np.sum((problem.y - inside @ rows) ** 2)
        signs = [tuple(rng.choice([1, -1]) for _ in hidden) for _ in range(2)]
        found = []
        for s in signs:
            weights = components._minimum(rng, problem, s)
            output = problem.x
            for w in weights:
                output = w @ output
            loss = np.sum((problem.y - output) ** 2)
            assert loss == pytest.approx(least, rel=1e-9, abs=1e-16)
            found.append(components._signs(problem, weights))
        critical = [i for i, d in enumerate(hidden) if problem.rank and d == problem.rank]
        change = [signs[0][i] * signs[1][i] for i in critical]
        tied = problem.block.stop > problem.block.start
        if tied and change:  # only products of two signs are labels
            change = [c * change[0] for c in change]
        assert [a * b for a, b in zip(*found, strict=True)] == change
        seen.add((tied, len(critical)))
    assert {(False, 0), (False, 1), (False, 2), (True, 1)} <= seen


@pytest.mark.parametrize(("chains", "epsilon", "count"), [
    ([[2, 2]], 0.0, 2), ([[1, 1, 1]], 0.0, 4), ([[1, 1, 1]], 1.0, 3), ([[1, 1], [1, 1, 1]], 1.0, 6),
])  # fmt: skip
def test_its_grid_counts(chains, epsilon, count):
    assert components._by_grid(chains, epsilon) == count


def test_its_list_of_orbit_points():
    rng = np.random.default_rng(0)
    v, u = rng.integers(-1, 2, size=(3, 2)), rng.integers(-1, 2, size=(2, 3))
    for flips in (False, True):
        assert components._listed(v, u, flips) == enumerated(v, u, flips)


def test_ways_of_figure_1_start_and_end_together_and_only_lines_lose():
    with jax.enable_x64(True):
        ways = figure1._ways()
    for path, line in (("linear_path", "linear_line"), ("residual_path", "residual_line")):
        np.testing.assert_allclose(ways[path][[0, -1]], ways[line][[0, -1]], rtol=1e-12)
        assert ways[f"{path}_loss"].max() < 1e-24
        assert ways[f"{line}_loss"].max() > 0.5
        # No jumps: the longest of 64 steps is a few times the mean.
        steps = np.linalg.norm(np.diff(ways[path], axis=0), axis=1)
        assert steps.max() < 10 * steps.mean()
    assert ways["linear_across_loss"].max() == pytest.approx(1.0)


@pytest.mark.parametrize("option", [{"cases": 1}, {"paths": 0}, {"largest": 1}])
def test_bad_option_is_named(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must"):
        components.Config(**option)
