"""Buckets hold their networks, waste no more than they must, and shrink in number as asked."""

import numpy as np
import pytest

from symjax.studies._buckets import WASTE, assign, fit_to, padded_shapes, wasted_arithmetic

SHAPES = np.random.default_rng(0).integers(2, 101, (60, 3))


def volume(shapes):
    return np.prod(np.asarray(shapes, float), axis=-1)


def wasted(corners, shapes=SHAPES):
    return wasted_arithmetic(shapes, corners, assign(shapes, corners, volume), volume)


def test_every_network_fits_its_bucket_and_waste_falls_with_their_number():
    waste = []
    for count in (1, 4, 16, 200):
        corners = padded_shapes(SHAPES, count, volume, 1)
        assert len(corners) <= count
        assert (SHAPES <= corners[assign(SHAPES, corners, volume)]).all()
        waste.append(wasted(corners))
    assert waste == sorted(waste, reverse=True)
    assert waste[-1] == 1.0


def test_one_bucket_is_the_largest_of_every_size():
    assert padded_shapes(SHAPES, 1, volume, 1).tolist() == [SHAPES.max(axis=0).tolist()]


def test_the_last_union_is_the_best_of_all():
    """Three networks in two buckets: against the three ways to do that."""
    for shapes in np.random.default_rng(1).integers(2, 101, (50, 3, 3)):
        pairs = [(0, 1, 2), (0, 2, 1), (1, 2, 0)]
        best = min(
            2 * volume(np.maximum(shapes[i], shapes[j])) + volume(shapes[k]) for i, j, k in pairs
        )
        corners = padded_shapes(shapes, 2, volume, 1)
        assert wasted(corners, shapes) <= best / volume(shapes).sum() * (1 + 1e-12)


def test_clusters_are_found_and_a_network_takes_the_cheapest_that_holds_it():
    shapes = np.array([[2, 3], [50, 50], [2, 3], [51, 50], [3, 3]])
    corners = padded_shapes(shapes, 2, volume, 1)
    assert corners.tolist() == [[3, 3], [51, 50]]
    assert assign(shapes, corners, volume).tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match="larger than all of `corners`"):
        assign(np.array([[52, 1]]), corners, volume)


@pytest.mark.parametrize("multiple", [1, 4])
def test_without_a_number_there_are_as_few_as_waste_little(multiple):
    corners = padded_shapes(SHAPES, None, volume, multiple)
    assert not (corners % multiple).any()
    assert wasted(corners) <= WASTE
    assert wasted(padded_shapes(SHAPES, len(corners) - 1, volume, multiple)) > WASTE
    assert len(corners) < len(SHAPES) / 2


def test_equal_shapes_share_a_bucket():
    assert padded_shapes(np.array([[5, 5], [6, 7]]), None, volume, 8).tolist() == [[8, 8]]


def test_padding():
    padded = fit_to(np.ones((2, 1), np.float32), (3, 2))
    assert padded.tolist() == [[1, 0], [1, 0], [0, 0]]
    assert padded.dtype == np.float32
    assert fit_to(np.float32(3), ()).shape == ()
    assert fit_to(np.ones((1, 3)), (2, 2), -7.0).tolist() == [[1, 1], [-7, -7]]


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="`buckets` must be at least 1, got 0"):
        padded_shapes(SHAPES, 0, volume, 1)
