"""Buckets hold their networks, waste no more than they must, and shrink in number as asked."""

import numpy as np
import pytest

from symjax.studies._buckets import bucket_shapes, fit_to, wasted_arithmetic

SHAPES = np.random.default_rng(0).integers(2, 101, (60, 3))


def volume(shapes):
    return np.prod(np.asarray(shapes, float), axis=-1)


def test_every_network_fits_its_bucket_and_waste_falls_with_their_number():
    waste = []
    for count in (1, 4, 16, 60):
        corners, members = bucket_shapes(SHAPES, count, volume)
        assert len(corners) <= count
        assert set(members) == set(range(len(corners)))
        assert (SHAPES <= corners[members]).all()
        waste.append(wasted_arithmetic(SHAPES, corners, members, volume))
    assert waste == sorted(waste, reverse=True)
    assert waste[-1] == 1.0


def test_one_bucket_is_the_largest_of_every_size():
    corners, members = bucket_shapes(SHAPES, 1, volume)
    assert corners.tolist() == [SHAPES.max(axis=0).tolist()]
    assert not members.any()


def test_equal_shapes_share_a_bucket_and_clusters_are_found():
    shapes = np.array([[2, 3], [50, 50], [2, 3], [51, 50], [3, 3]])
    corners, members = bucket_shapes(shapes, 2, volume)
    assert sorted(corners.tolist()) == [[3, 3], [51, 50]]
    assert members[0] == members[2] == members[4] != members[1] == members[3]


@pytest.mark.parametrize("multiple", [1, 4])
def test_without_a_number_there_are_as_few_as_waste_less_than_half(multiple):
    corners, members = bucket_shapes(SHAPES, None, volume, multiple)
    assert not (corners % multiple).any()
    assert wasted_arithmetic(SHAPES, corners, members, volume) < 2
    fewer = bucket_shapes(SHAPES, len(corners) - 1, volume, multiple)
    assert wasted_arithmetic(SHAPES, *fewer, volume) >= 2
    assert len(corners) < len(SHAPES) / 3


def test_padding():
    padded = fit_to(np.ones((2, 1), np.float32), (3, 2))
    assert padded.tolist() == [[1, 0], [1, 0], [0, 0]]
    assert padded.dtype == np.float32
    assert fit_to(np.float32(3), ()).shape == ()
    assert fit_to(np.ones((1, 3)), (2, 2), -7.0).tolist() == [[1, 1], [-7, -7]]


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="`buckets` must be at least 1, got 0"):
        bucket_shapes(SHAPES, 0, volume)
