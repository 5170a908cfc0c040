"""check, match and merge from the shell, on checkpoints of a small network."""

import numpy as np
import pytest

from symjax.__main__ import main
from symjax.checkpoints import load

MODEL = """
import jax, jax.numpy as jnp

def net():
    apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
    params = {"up": jnp.zeros((3, 5)), "down": jnp.zeros((5, 2))}
    return apply, params, (jnp.ones((4, 3)),)
"""
ORDER = [2, 0, 1, 4, 3]


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    up, down = (rng.normal(size=s).astype(np.float32) for s in ((3, 5), (5, 2)))
    (tmp_path / "model.py").write_text(MODEL)
    np.savez(tmp_path / "a.npz", up=up, down=down)
    np.savez(tmp_path / "b.npz", up=up[:, ORDER], down=down[ORDER])
    np.savez(tmp_path / "wrong.npz", up=up[:, ORDER], down=down)
    np.savez(tmp_path / "dead.npz", up=up * np.nan, down=down)
    return tmp_path


def call(files, command, *words):
    return main([command, f"{files / 'model.py'}:net", *map(str, words)])


def test_check_says_the_same_not_the_same_or_could_not_tell(files, capsys):
    a = files / "a.npz"
    assert call(files, "check", a, files / "b.npz") == 0
    assert "5 of 5 permuted" in capsys.readouterr().out
    assert call(files, "check", a, files / "wrong.npz") == 1
    assert "'down' was left behind" in capsys.readouterr().out
    assert call(files, "check", a, files / "dead.npz") == 2
    assert "could not tell" in capsys.readouterr().out
    assert call(files, "check", a, files / "missing.npz") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_match_and_merge_write_checkpoints_and_never_over_one(files, capsys):
    a, b, out = (files / f"{name}.npz" for name in "abc")
    assert call(files, "match", a, b, "--out", out) == 0
    assert (files / "c.npz.element.npz").is_file()
    for name, x in load(a).items():
        assert np.allclose(load(out)[name], x, rtol=1e-5, atol=1e-6)
    assert call(files, "match", a, b, "--out", out) == 2
    merged = files / "m.npz"
    assert call(files, "merge", a, b, "--out", merged, "--at", "0.25", "0.75") == 0
    for name, x in load(a).items():
        assert np.allclose(load(merged)[name], x, rtol=1e-5, atol=1e-6)
    assert call(files, "merge", a, b, "--out", files / "n.npz", "--at", "0.5", "0.9") == 2
    assert not (files / "n.npz").exists()
    capsys.readouterr()
