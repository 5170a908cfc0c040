"""Settings of the whole test run: strict promotion, no silent broadcasting, float64 on request.

SYMJAX_CHECK_ANNOTATIONS=1 checks every annotation on the way (see `annotations`).
"""

import os
import tempfile
from pathlib import Path

import hypothesis
import jax
import matplotlib
import pytest

from . import annotations

matplotlib.use("Agg")
# The examples of a property are the same in every run: what fails once fails again.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
if os.environ.get("SYMJAX_CHECK_ANNOTATIONS"):
    annotations.install()


def pytest_configure(config):
    """What one process has compiled the others load: most of the time goes into compiling.

    In a folder of this run's own, unless JAX_COMPILATION_CACHE_DIR names another.
    """
    shared = "JAX_COMPILATION_CACHE_DIR"
    if shared not in os.environ:  # in a worker it is, set by the process that started it
        folder = tempfile.TemporaryDirectory(prefix="symjax-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ[shared] = folder.name
        # Loading a program, XLA names settings of LLVM as missing features of the processor.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    jax.config.update("jax_compilation_cache_dir", os.environ[shared])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


# Linux gives a process 65530 memory mappings; every compiled program holds a few of them, and
# compiling beyond the last one is a segmentation fault.
_MAPPINGS = Path("/proc/self/maps")
_MOST_MAPPINGS = 30_000


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def x64():
    """float64 for the duration of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_a_reader_has_it():
    """JAX's own settings, and a page or a notebook may change them for itself."""
    before = jax.config.jax_enable_x64
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True, scope="module")
def _programs_of_earlier_files_are_dropped():
    yield
    if _MAPPINGS.exists() and _MAPPINGS.read_text().count("\n") > _MOST_MAPPINGS:
        jax.clear_caches()
