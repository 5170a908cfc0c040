"""Prints a digest of what a small sample gives on the devices of this process, and of all others.

A program of its own, since the number of devices is settled when jax starts:
``python -m tests.studies.devices`` with XLA_FLAGS, or with a process number and an address.
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from symjax.studies import Study
from symjax.studies._sampling import measure


def one(key, index):
    a = jax.random.normal(key, (5, 5)) / 2
    return {
        "index": index,
        "norm": jnp.linalg.norm(jnp.linalg.inv(a)),
        "row": jnp.exp(a)[0] @ a,
        "mean": jnp.mean(jnp.sin(jax.random.normal(key, (1000,)))),
    }


def two(key, index):
    """Another size: the leading corner of a padded matrix."""
    return one(key, index) | {"norm": jnp.linalg.norm(jax.random.normal(key, (9, 9))[:5])}


SINGLE = Study(300, (one,), 7, batch=16, x64=True)
MIXED = Study(300, (one, two), 7, batch=4, choose=lambda i: (i * i % 11 > 4).astype(int), window=32)
HOST = Study(101, x64=True, on_host=lambda i: {"index": i, "root": np.sqrt(i), "odd": i % 2 == 1})


def digest(study, chunk):
    data = measure(study, chunk)
    assert data["index"].tolist() == list(range(study.networks))
    return hashlib.sha256(b"".join(data[name].tobytes() for name in sorted(data))).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        jax.distributed.initialize(sys.argv[2], int(sys.argv[3]), int(sys.argv[1]))
    found = [digest(study, chunk) for study in (SINGLE, MIXED, HOST) for chunk in (64, 1000)]
    # Last and on one line: the library that joins processes prints too.
    print()
    print(jax.device_count(), jax.process_count(), *found)
