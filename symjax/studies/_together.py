"""What several processes of one run agree in."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def agree_on(identity: dict[str, Any]) -> None:
    """StudyError, on every process, where one was started with anything else than process 0."""


def agree(value: int) -> int:
    """Process 0's value, on every process."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
