"""Pages to turn round: the plane against plain NumPy, and what a page holds and asks for."""

import base64
import html.parser
import importlib
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.studies import _look, _plane, _stored, digits, figure1, figure3b, figure3c
from symjax.studies._runner import StudyError, run_study

from .test_runner import Config, small_study


def hyperbola(t):
    """A curve of w0 w1 = 1, with a third parameter that leaves the plane of ends and middle."""
    return {"a": jnp.stack([jnp.exp(t), jnp.exp(-t)]), "b": t * (t - 0.5) * (t - 1)}


def bent(w):
    return (w["a"][0] * w["a"][1] - 1) ** 2 + w["b"] ** 2


@pytest.fixture(scope="module")
def ground():
    """The plane's arrays for that loss, in float64."""
    with jax.enable_x64(True):
        found = jax.jit(lambda: _plane.plane("p", bent, hyperbola))()
    return {name: np.asarray(value) for name, value in found.items()}


def test_the_plane_goes_through_the_ends_and_the_middle(ground):
    points = np.array([[np.exp(t), np.exp(-t), 0] for t in (0, 0.5, 1)])
    start, middle, end = points
    # Gram and Schmidt, by QR.
    q, r = np.linalg.qr(np.stack([end - start, middle - start], axis=1))
    axes = q * np.sign(np.diag(r))
    x, y = ground["p_x"], ground["p_y"]
    grid = start + x[None, :, None] * axes[:, 0] + y[:, None, None] * axes[:, 1]
    loss = (grid[..., 0] * grid[..., 1] - 1) ** 2 + grid[..., 2] ** 2
    np.testing.assert_allclose(ground["p_loss"], loss, rtol=1e-10, atol=1e-13)
    reach = np.abs(axes.T @ (end - start))[0]
    assert x[0] < 0 < reach < x[-1]

    times = np.linspace(0, 1, _plane.TIMES)
    rise = times * (times - 0.5) * (times - 1)
    curve = np.stack([np.exp(times), np.exp(-times), 0 * times], axis=1) - start
    np.testing.assert_allclose(ground["p_curve_x"], curve @ axes[:, 0], atol=1e-13)
    np.testing.assert_allclose(ground["p_curve_y"], curve @ axes[:, 1], atol=1e-13)
    np.testing.assert_allclose(ground["p_curve_off"], np.abs(rise), atol=1e-8)
    np.testing.assert_allclose(ground["p_curve_loss"], rise**2, atol=1e-13)
    np.testing.assert_allclose(ground["p_curve_below"], 0, atol=1e-13)
    chord = start + times[:, None] * (end - start)
    np.testing.assert_allclose(
        ground["p_chord_loss"], (chord[:, 0] * chord[:, 1] - 1) ** 2, atol=1e-13
    )
    assert set(_plane.units("p", "loss")) == set(ground)


class Reader(html.parser.HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def handle_starttag(self, tag, attrs):
        self.asked += [value for name, value in attrs if name in ("src", "href", "data", "action")]


def traces_of(page):
    """The traces of every figure of a page, as JSON."""
    decoder = json.JSONDecoder()
    starts = re.finditer(r'Plotly\.newPlot\(\s*"[\w-]+",\s*(?=\[)', page)
    return [decoder.raw_decode(page, start.end())[0] for start in starts]


def values_of(array):
    """The numbers of an array in a figure, which Plotly packs."""
    if isinstance(array, list):
        return np.array(array)
    flat = np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])
    return flat.reshape([int(n) for n in array["shape"].split(",")]) if "shape" in array else flat


def surfaces_data():
    """Stored data of figure1: the sheets, and straight ways."""
    data = {
        f"{name}_{i}": np.stack(corners)
        for name, skip in (("linear", 0.0), ("residual", 1.0))
        for i, corners in enumerate(figure1._sheets(skip, 4.0))
    }
    for key in figure1.WAYS:
        data[key] = np.linspace([1, 1, 1], [2, 0.5, 1], 65)
        data[f"{key}_loss"] = np.linspace(0, 0.25, 65)
    return data


def planes_data(ground):
    """Stored data of digits and figure3b: planes alone, with the axis of networks."""
    names = ("plane", "curve_plane", "rescaling_plane")
    return {f"{n}{key[1:]}": value[None] for n in names for key, value in ground.items()}


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        (figure1, [["surface"] * 4 + ["scatter3d"] * 3, ["surface"] * 3 + ["scatter3d"] * 2]),
        (digits, [["surface"] + ["scatter3d"] * 3]),
        (figure3b, [["surface"] + ["scatter3d"] * 3] * 2),
        (figure3c, [["surface"] + ["scatter3d"] * 3] * 2),
    ],
)
def test_a_page_holds_its_figures_and_asks_for_nothing(study, expected, ground):
    data = surfaces_data() if study is figure1 else planes_data(ground)
    page = _look.page("a <title>", study.look(data))
    reader = Reader()
    reader.feed(page)
    assert reader.asked == []
    assert "a &lt;title&gt;" in page
    assert page.index("Plotly.newPlot(  ") > 1_000_000  # the script comes first, and is there
    figures = traces_of(page)
    assert [[trace["type"] for trace in traces] for traces in figures] == expected
    assert all(trace["name"] and "$" not in trace["name"] for traces in figures for trace in traces)
    surface = figures[0][0]
    stored = data["linear_3"][2] if study is figure1 else ground["p_loss"]
    np.testing.assert_array_equal(values_of(surface["z"]), stored)


def test_look_writes_one_file_from_the_store_or_says_why_not(tmp_path, monkeypatch):
    module = small_study(monkeypatch)
    run_study("small", Config(), tmp_path)
    with pytest.raises(StudyError, match="nothing in small is three-dimensional"):
        _stored.look(tmp_path)
    trace = lambda data: _look.line(*[data["size"]] * 3, name="sizes", style=_look.plotting.CURVE)
    module.look = lambda data: [
        _look.Panel("one", "text", _look.scene([trace(data)], "x", "y", "z", eye=(1, 1, 1)))
    ]
    assert _stored.look(tmp_path) == tmp_path / "small.html"
    page = (tmp_path / "small.html").read_text()
    assert traces_of(page)[0][0]["name"] == "sizes"
    assert "small: A small study" in page
    with pytest.raises(StudyError, match="cannot be written"):
        _stored.look(tmp_path, tmp_path / "nowhere" / "page.html")

    module.look = lambda data: data["an array of later"]
    with pytest.raises(StudyError, match="no array 'an array of later': an older version"):
        _stored.look(tmp_path)
    find_spec = importlib.util.find_spec
    without = lambda name, *rest: None if name == "plotly" else find_spec(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(StudyError, match=r"plotly: pip install 'matplotlib>=.* 'zarr>="):
        _stored.look(tmp_path)


def test_labels_lose_the_markup_of_matplotlib():
    assert _look.plain("$w_1 < 0,\\ w_2 > 0$") == "w₁ < 0, w₂ > 0"
