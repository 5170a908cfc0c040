"""Exponentials, logarithms and polar factors of batches of matrices, on any backend."""
