"""Parts of a model that do nothing leave the element undetermined there; it must stay usable."""

import numpy as np
import pytest
import scipy.linalg

import symjax
from symjax import GeneralLinear, Leg, Permutation, PositiveScaling, Power, Translation

from .models import symmetry

HEADS, SIZE, UNITS = 3, 4, 6


def model():
    """An attention layer and two layers of ReLU units, with all that moves them."""
    head = Power(GeneralLinear(SIZE), HEADS)
    heads = lambda *names: [Leg(n, 0 if n == "o" else 1) for n in names]
    symmetries = [
        symmetry("q, k", head, [Leg("q", (1, 2)), Leg("k", (1, 2), "covector")]),
        symmetry("v, o", head, [Leg("v", (1, 2)), Leg("o", (0, 1), "covector")]),
        symmetry("heads", Permutation(HEADS), heads("q", "k", "v", "o")),
        symmetry("scales", PositiveScaling(UNITS), [Leg("w", 1), Leg("u", 0, "covector")]),
        symmetry("units", Permutation(UNITS), [Leg("w", 1), Leg("u", 0)]),
        # The mean over features is taken away behind o: it moves even where o is 0.
        symmetry("mean", Translation(HEADS * SIZE), [Leg("o", (0, 1))]),
    ]
    shapes = {n: (5, HEADS, SIZE) for n in "qkv"} | {"o": (HEADS, SIZE, 5)}
    shapes |= {"w": (5, UNITS), "u": (UNITS, 5)}
    return symmetries, shapes


SYMMETRIES, SHAPES = model()


def move(g, p):
    """Parameters moved by an element, in NumPy: permutations come first."""
    qk, vo, heads, scales, units, mean = (np.asarray(x) for x in g)
    p = {n: v[:, heads] if n in "qkv" else v[heads] if n == "o" else v for n, v in p.items()}
    w, u = p["w"][:, units] * scales, p["u"][units] / scales[:, None]
    inverse = np.linalg.inv
    return {
        "q": np.einsum("hij,dhj->dhi", qk, p["q"]),
        "k": np.einsum("hji,dhj->dhi", inverse(qk), p["k"]),
        "v": np.einsum("hij,dhj->dhi", vo, p["v"]),
        "o": np.einsum("hji,hje->hie", inverse(vo), p["o"]) + mean.reshape(HEADS, SIZE, 1),
        "w": w,
        "u": u,
    }


def planted(rng):
    matrices = scipy.linalg.expm(0.5 * rng.standard_normal((2, HEADS, SIZE, SIZE)))
    matrices[:, 1, 0] *= -1  # one head of another component
    order = rng.permutation(HEADS), rng.permutation(UNITS)
    scales, mean = np.exp(0.5 * rng.standard_normal(UNITS)), rng.standard_normal(HEADS * SIZE)
    return *matrices, order[0], scales, order[1], mean


def apply(p, x):
    """In NumPy and float64, whatever the parameters come in."""
    p = {n: np.asarray(v, np.float64) for n, v in p.items()}
    scores = np.einsum("td,dhk,se,ehk->hts", x, p["q"], x, p["k"]) / 10
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    x = x + np.einsum("hts,sd,dhk,hke->te", weights, x, p["v"], p["o"])
    x = x - x.mean(-1, keepdims=True)
    return np.maximum(x @ p["w"], 0) @ p["u"]


def pruned(kind, seed):
    rng = np.random.default_rng(seed)
    p = {n: rng.standard_normal(s) for n, s in SHAPES.items()}
    match kind:
        case "o" | "o of all heads":
            p["o"][:: 1 if kind == "o of all heads" else 2] = 0
        case "v and o":
            p["v"][:, 1] = p["o"][1] = 0
        case "q":
            p["q"][:, 1] = 0
        case "q and k of two heads":
            p["q"][:, 1:] = p["k"][:, 1:] = 0
        case "a row of a head":
            p["o"][1, 2] = 0
        case "rank of a head":
            p["v"][:, 0, 3] = p["v"][:, 0, 2]
        case "inputs of a unit":
            p["w"][:, 2] = 0
        case "outputs of a unit":
            p["u"][2] = 0
        case "both sides of a unit":
            p["w"][:, 2] = p["u"][2] = 0
    return p


KINDS = (
    *("o", "o of all heads", "v and o", "q", "q and k of two heads"),
    *("a row of a head", "rank of a head"),
    *("inputs of a unit", "outputs of a unit", "both sides of a unit"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_element_keeps_the_function_and_stays_small(kind, x64):
    x = np.random.default_rng(9).standard_normal((6, 5))
    for seed in range(2):
        a = pruned(kind, seed)
        b = move(planted(np.random.default_rng(seed)), a)
        for dtype in (np.float32, np.float64):
            one, other = ({n: v.astype(dtype) for n, v in p.items()} for p in (a, b))
            found = symjax.match(SYMMETRIES, one, other, restarts=1)
            right = apply(other, x)
            error = lambda p, y=right: np.abs(apply(p, x) - y).max() / np.abs(y).max()
            # Cancellation in a head costs a few digits, at elements of condition 100 or so.
            assert error(found.params) < 1e4 * np.finfo(dtype).eps
            element = [
                np.asarray(g, np.float64 if k in (0, 1, 3, 5) else None)
                for k, g in enumerate(found.element)
            ]
            assert error(move(element, {n: v.astype(float) for n, v in other.items()})) < 1e-9
            for g in element[:2]:
                assert np.linalg.cond(g).max() < 1e8
            assert found.after <= found.before
