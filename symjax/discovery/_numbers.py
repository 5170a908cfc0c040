"""What a constant of a program stands for, whatever the dtype that it was rounded to.

A third is another number in each dtype, and so is 0.1; a model's symmetries must not depend on
that. So a constant is read as the shortest number that its dtype rounds to it.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

#: What is this near to the largest number of its dtype stands for infinity, as in a mask.
NEAR_LARGEST = 0.25
LARGEST = float(np.finfo(np.float32).max)


def plain(array: np.ndarray) -> np.ndarray:
    """An array in a dtype of NumPy itself: bfloat16 and narrower ones as float32."""
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(np.float32) if floating and array.dtype.kind != "f" else array


def meant(value: float, dtype: Any) -> float:
    """The shortest of the numbers that a floating dtype rounds to a value of it."""
    if not jnp.issubdtype(dtype, jnp.floating) or not math.isfinite(value) or value == 0:
        return value
    largest = float(jnp.finfo(dtype).max)
    if abs(value) >= NEAR_LARGEST * largest:
        return value / largest * LARGEST
    if (float(value).is_integer() and abs(value) < 1 << 24) or math.frexp(abs(value))[0] == 0.5:
        return value
    rounded = lambda x: float(np.asarray(x).astype(dtype)) == value
    ratio = next((p / q for q in range(3, 13) for p in (round(value * q),) if rounded(p / q)), None)
    whole = round(min(max(1 / value, -1e6), 1e6))  # of a mean
    decimals = [float(f"{value:.{digits}e}") for digits in range(3)]
    mean = 1 / whole if 0 < abs(whole) < 4096 else None
    short = [decimals[0], ratio, mean]
    return next((x for x in (*short, *decimals[1:]) if x is not None and rounded(x)), value)
