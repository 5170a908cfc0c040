"""Can one get there at all: components of the minimum, explicit paths, heights between them."""
