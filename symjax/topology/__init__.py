"""Can one get there at all: components of the minimum, explicit paths, heights between them."""

from ._grid import GridCount as GridCount, count_by_grid as count_by_grid
