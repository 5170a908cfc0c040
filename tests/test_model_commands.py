"""The commands about a model: what they print, and one clear line for every wrong call."""

import hashlib
import json
import os

import ml_dtypes
import numpy as np
import pytest

from symjax.__main__ import main
from symjax.checkpoints import load, save

pytestmark = pytest.mark.usefixtures("as_a_reader_has_it")  # the models are a user's

SOURCE = """
import jax
import jax.numpy as jnp

def mlp():
    first, second = jax.random.split(jax.random.key(0))
    params = {"one": {"w": jax.random.normal(first, (3, 5)), "b": jnp.ones(5)}}
    params["two"] = jax.random.normal(second, (5, 2))
    hidden = lambda p, x: jax.nn.relu(x @ p["one"]["w"] + p["one"]["b"])
    return lambda p, x: hidden(p, x) @ p["two"], params, jax.random.normal(first, (7, 3))

def broken():
    return mlp()[0], {}

def failing():
    raise KeyError("no such thing")
"""


@pytest.fixture
def there(tmp_path):
    (tmp_path / "model.py").write_text(SOURCE)
    draw = np.random.default_rng(3)
    shapes = {"one/w": (3, 5), "one/b": (5,), "two": (5, 2)}
    arrays = {k: draw.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    save(tmp_path / "a.npz", arrays)
    # the same function: units moved to other places, and scaled by powers of two
    order, scale = np.array([3, 1, 4, 0, 2]), np.float32([2, 0.5, 8, 1, 0.25])
    moved = {"one/w": arrays["one/w"][:, order] * scale, "one/b": arrays["one/b"][order] * scale}
    save(tmp_path / "b.npz", moved | {"two": arrays["two"][order] / scale[:, None]})
    # others: one entry changed, and all units scaled without what makes up for it
    changed = arrays["two"].copy()
    changed[0, 0] += 0.75
    save(tmp_path / "c.npz", arrays | {"two": changed})
    save(tmp_path / "d.npz", arrays | {"one/w": arrays["one/w"] * 2})
    return tmp_path


def said(capsys, *words):
    """What a right call prints."""
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_symmetries_are_printed_and_given_as_data(there, capsys):
    model = f"{there}/model.py:mlp"
    table = said(capsys, "symmetries", model, "--weights", there / "a.npz")
    assert "group dimension 5" in table
    assert "R+^5" in table
    data = json.loads(said(capsys, "symmetries", model, "--json"))
    assert data["dimension"] == 5
    assert {x["group"] for x in data["symmetries"]} == {"R+^5", "S(5)"}
    assert "nothing" in said(capsys, "symmetries", model, "--why")


def test_canonical_depends_on_the_function_alone(there, capsys):
    model, found = f"{there}/model.py:mlp", []
    for name in "ab":
        out = there / f"{name}_canonical.npz"
        line = said(capsys, "canonical", model, there / f"{name}.npz", "--out", out)
        assert float(line.split()[-1]) < 1e-6
        assert "moved by 2 symmetries" in line
        found.append(load(out))
    for name, x in found[0].items():
        np.testing.assert_allclose(found[1][name], x, rtol=0, atol=2e-6)


def test_fingerprints_are_those_of_functions(there, capsys):
    """And a hash of sorted weights is equal for two functions or different for one."""
    model = f"{there}/model.py:mlp"
    words = {n: said(capsys, "fingerprint", model, there / f"{n}.npz") for n in "abcd"}
    assert words["a"] == words["b"]
    assert len(set(words.values())) == 3
    weights = {n: np.sort(np.concatenate([x.ravel() for x in load(there / f"{n}.npz").values()]))
               for n in "ab"}  # fmt: skip
    assert len({hashlib.sha256(x.tobytes()).digest() for x in weights.values()}) == 2


def test_a_fingerprint_that_cannot_be_told_is_not_given(there, capsys):
    (there / "half.py").write_text(SOURCE.replace("(5, 2))", "(5, 2)).astype(jnp.bfloat16)"))
    half = load(there / "a.npz")
    save(there / "h.npz", half | {"two": half["two"].astype(ml_dtypes.bfloat16)})
    assert main(["fingerprint", f"{there}/half.py:mlp", f"{there}/h.npz"]) == 2
    assert "cannot tell: weights of 16 bits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["symmetries"], "SOURCE"),
        (["symmetries", "HERE/none"], "which does not exist"),
        (["symmetries", "HERE/none.py:mlp"], "names a file that does not exist"),
        (["symmetries", "HERE/model.py:mlq"], "its functions are mlp, broken, failing"),
        (["symmetries", "HERE/model.py:broken"], "must return (apply, params, inputs), got tuple"),
        (["symmetries", "HERE/model.py:failing"], "model.py, line 16: KeyError: 'no such thing'"),
        (["symmetries", "HERE/model.py:mlp", "--weights", "HERE/no.npz"], "does not exist"),
        (["symmetries", "HERE"], "has no config.json"),
        (["fingerprint", "HERE/model.py:mlp", "HERE/other.npz"], "'one/b' (nearest: 'one/v')"),
        (["fingerprint", "HERE/model.py:mlp", "HERE/shape.npz"], "float32[4] for 'one/b'"),
        (["fingerprint", "HERE/model.py:mlp", "HERE/dtype.npz"], "float64[5] for 'one/b'"),
        (["fingerprint", "HERE/model.py:mlp", "HERE/half.npz"], "is no whole .npz"),
        (["canonical", "HERE/model.py:mlp", "HERE/a.npz"], "--out"),
        (["canonical", "HERE/model.py:mlp", "HERE/a.npz", "--out", "HERE/b.npz"], "exists"),
        (["canonical", "HERE/model.py:mlp", "HERE/a.npz", "--out", "HERE/n/b.npz"], "a folder"),
        (["canonical", "HERE/model.py:mlp", "HERE/a.npz", "--out", "HERE/b.txt"], "must end in"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(there, capsys, words, line):
    whole = load(there / "a.npz")
    rest = {k: x for k, x in whole.items() if k != "one/b"}
    save(there / "other.npz", rest | {"one/v": whole["one/b"]})
    save(there / "shape.npz", rest | {"one/b": whole["one/b"][:4]})
    save(there / "dtype.npz", rest | {"one/b": whole["one/b"].astype(np.float64)})
    (there / "half.npz").write_bytes((there / "a.npz").read_bytes()[:200])
    before = sorted(os.listdir(there))
    assert main([word.replace("HERE", str(there)) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("symjax: error: ")
    assert err.count("\n") == 1
    assert line in err
    assert [x for x in sorted(os.listdir(there)) if x != "__pycache__"] == before
