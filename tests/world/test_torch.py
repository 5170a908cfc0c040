"""`from_torch`: the module's own outputs, its names, and the module back."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

torch = pytest.importorskip("torch", reason="needs the extra torch")
nn = torch.nn


def of(module, call=None, **options):
    """The adapter's pair, and how the module itself is run."""
    run = call or (lambda m, *x: m(*x))
    return symjax.from_torch(module, call, **options), run


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def same(module, *inputs, call=None, eps=64, **options):
    """The outputs to some eps of the largest one, by `apply` and by the module that it restores."""
    (apply, params), run = of(module, call, **options)
    with torch.no_grad():
        expected = run(module, *map(torch.tensor, inputs)).numpy()
        back = run(apply.restore(params), *map(torch.tensor, inputs)).numpy()
    np.testing.assert_array_equal(back, expected)
    got = np.asarray(jax.jit(apply)(params, *inputs))
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= eps * np.finfo(np.float32).eps * np.abs(expected).max()
    return apply, params


first = lambda m, *x: m(*x)[0]
attended = lambda m, x: m(x, x, x)[0]
LAYERS = {
    "linear": (lambda: nn.Linear(3, 2), (4, 3), None),
    "convolution": (lambda: nn.Conv2d(2, 4, 3, groups=2, padding="same"), (1, 2, 5, 5), None),
    "lstm": (lambda: nn.LSTM(3, 2, 2, batch_first=True, bidirectional=True), (2, 4, 3), first),
    "gru": (lambda: nn.GRU(3, 2, batch_first=True), (2, 4, 3), first),
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), (2, 3, 4), attended),
    "encoder": (lambda: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (2, 3, 4), None),
    "weight norm": (lambda: nn.utils.weight_norm(nn.Linear(3, 2)), (4, 3), None),
    "parametrised": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), (4, 3), None),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_compute_what_torch_computes(layer):
    make, shape, call = LAYERS[layer]
    module = make().eval()
    _, params = same(module, drawn(*shape), call=call)
    assert set(params) == set(module.state_dict())


def norm_net():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    net[1].running_mean.uniform_(-1, 1)
    return net


def test_buffers_are_constant_unless_they_are_asked_for():
    net, x = norm_net(), drawn(5, 3)
    _, params = same(net, x)
    assert set(params) == {f"{i}.{n}" for i in (0, 1, 3) for n in ("weight", "bias")}
    apply, params = same(net, x, state_as_parameters=True)
    assert {"1.running_mean", "1.running_var"} <= set(params)
    assert "1.num_batches_tracked" not in params
    moved = params | {"1.running_mean": params["1.running_mean"] + 1}
    assert np.abs(apply(moved, x) - apply(params, x)).max() > 1e-2
    np.testing.assert_array_equal(
        apply.restore(moved)[1].running_mean.numpy(), moved["1.running_mean"]
    )


def test_what_a_call_writes_to_buffers_is_dropped():
    net = norm_net().train()
    before = net[1].running_mean.clone()
    apply, params = symjax.from_torch(net)
    first, second = (apply(params, drawn(5, 3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(net[1].running_mean, before)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens)))


def test_a_tied_leaf_appears_once_and_stays_tied():
    apply, params = same(Tied(), np.asarray([[1, 2, 6]], np.int32))
    assert set(params) == {"embedding.weight"}
    back = apply.restore({"embedding.weight": 2 * params["embedding.weight"]})
    assert back.head.weight is back.embedding.weight


def test_a_frozen_part_is_constant_beside_a_trained_one():
    net = norm_net()
    net[0].requires_grad_(False)
    apply, params = symjax.from_torch(net)
    assert not any(name.startswith("0.") for name in params)
    assert not apply.restore(params)[0].weight.requires_grad
    assert "0.weight" in symjax.from_torch(net, state_as_parameters=True)[1]
    assert "0.weight" in symjax.from_torch(net.requires_grad_(False))[1]


def test_parameters_are_copies_and_later_changes_do_not_reach_them():
    net, x = norm_net(), drawn(5, 3)
    apply, params = symjax.from_torch(net)
    before = apply(params, x)
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.zero_()
    net.train()
    np.testing.assert_array_equal(apply(params, x), before)
    back = apply.restore(params)
    with torch.no_grad():
        back[0].weight.zero_()
    np.testing.assert_array_equal(apply(params, x), before)


def test_low_precision_keeps_its_dtype():
    net = nn.Linear(3, 2).to(torch.bfloat16)
    apply, params = symjax.from_torch(net)
    assert {x.dtype for x in params.values()} == {jnp.dtype("bfloat16")}
    x = jnp.asarray(drawn(4, 3), jnp.bfloat16)
    assert apply(params, x).dtype == jnp.bfloat16
    assert torch.equal(apply.restore(params).weight, net.weight)


def test_float64_is_kept_where_jax_has_it(x64):
    net = nn.Linear(3, 2).double()
    apply, params = symjax.from_torch(net)
    x = drawn(4, 3).astype(np.float64)
    np.testing.assert_allclose(apply(params, x), net(torch.tensor(x)).detach(), rtol=1e-14)


def test_gradients_are_those_of_torch():
    net, x = norm_net(), drawn(5, 3)
    apply, params = symjax.from_torch(net)
    got = jax.grad(lambda p: (apply(p, x) ** 2).sum())(params)
    (net(torch.tensor(x)) ** 2).sum().backward()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(got[name], p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [norm_net, lambda: nn.TransformerEncoderLayer(4, 2, 6).eval()])
def test_a_module_without_values_has_the_same_symmetries(make):
    torch.manual_seed(0)
    apply, params = symjax.from_torch(make())
    x = drawn(5, 3) if isinstance(make(), nn.Sequential) else drawn(3, 2, 4)
    found = symjax.find_symmetries(apply, params, x)
    with torch.device("meta"):
        abstract, shapes = symjax.from_torch(make())
    assert shapes == {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in params.items()}
    aval = jax.ShapeDtypeStruct(x.shape, x.dtype)
    assert symjax.find_symmetries(abstract, shapes, aval).dimension == found.dimension
    assert all(p.is_meta for p in abstract.restore(shapes).parameters())


def test_symmetries_of_a_perceptron_move_the_module_itself():
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    apply, params = symjax.from_torch(net)
    x = drawn(6, 3)
    symmetries = symjax.find_symmetries(apply, params, x)
    assert symmetries.dimension == 5
    element = symmetries[0].group.random(jax.random.key(0), dtype=jnp.float32)
    moved = apply.restore(symmetries[0].action(element, params))
    assert (moved[0].weight - net[0].weight).abs().max() > 0.1
    torch.testing.assert_close(moved(torch.tensor(x)), net(torch.tensor(x)), rtol=1e-5, atol=1e-5)


class Branches(nn.Module):
    """Looks at the data, unless it is being compiled: as several encoders look for padding."""

    def __init__(self, always=False):
        super().__init__()
        self.inner, self.always = nn.Linear(3, 2), always

    def forward(self, x):
        look = self.always or not torch.compiler.is_compiling()
        return self.inner(x) if look and (x > 1e9).any() else self.inner(x) + 1


def test_a_look_at_the_data_is_left_out_where_the_module_can_do_without():
    same(Branches(), drawn(4, 3))
    apply, params = symjax.from_torch(Branches(always=True))
    with pytest.raises(ValueError, match=r"decides by the values .* line \d+: look|look = |return"):
        jax.jit(apply)(params, drawn(4, 3))


@pytest.mark.parametrize("reading", ["_as_it_is", "_compiling", "_exported"])
def test_every_reading_computes_the_same(reading):
    from symjax.adapters import _torch_modules, _torchax

    net, x = norm_net(), drawn(5, 3)
    program = _torchax.Program(_torch_modules.on_meta(net), lambda m, x: m(x))
    program.readings = [getattr(_torchax, reading)]
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    got = program({k: _torchax.to_array(v) for k, v in tensors.items()}, (x,), {})
    np.testing.assert_allclose(got, net(torch.tensor(x)).detach(), rtol=1e-5, atol=1e-6)


def test_what_constants_decide_is_decided():
    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            mask = torch.tril(torch.ones(x.shape[-1], x.shape[-1]))
            return self.inner(x) * (2.0 if bool((mask.cumsum(0) > 2.5).any()) else 1.0)

    same(Masks(), drawn(4, 3))


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.inner, self.what = nn.Linear(3, 2), what

    def forward(self, x):
        return self.what(self.inner(x))


def test_a_mapping_becomes_a_dictionary_and_other_objects_are_refused():
    apply, params = symjax.from_torch(Returns(lambda y: {"y": y, "none": None}))
    assert set(apply(params, drawn(4, 3))) == {"y"}
    apply, params = symjax.from_torch(Returns(lambda y: (y, object())))
    with pytest.raises(ValueError, match=r"returns a object among its outputs.*pass `call`"):
        apply(params, drawn(4, 3))


def sparse():
    net = nn.Linear(2, 2)
    net.weight = nn.Parameter(torch.eye(2).to_sparse())
    return net


BAD = {
    "no module": (lambda: 3, "must be a torch.nn.Module, got int"),
    "scripted": (lambda: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), "is scripted"),
    "compiled": (lambda: torch.compile(nn.Linear(2, 2)), "is compiled"),
    "no parameters": (lambda: nn.Tanh(), "holds no parameters"),
    "dropout": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout()), r"dropout \(1\).*eval\(\)"),
    "lstm": (lambda: nn.LSTM(2, 2, 2, dropout=0.5), r"dropout \(LSTM\).*eval\(\)"),
    "sparse": (sparse, "'weight' is sparse.*to_dense"),
    "lazy": (lambda: nn.LazyLinear(2), "'weight' has no shape yet"),
    "float64": (lambda: nn.Linear(2, 2).double(), r"'weight' is torch.float64.*module.float\(\)"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_refused_before_any_work(kind):
    make, message = BAD[kind]
    module = make()
    with pytest.raises(ValueError, match=message):
        symjax.from_torch(module)


def test_a_tensor_elsewhere_is_refused(monkeypatch):
    net = nn.Linear(2, 2)

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda:0")

    monkeypatch.setattr(
        net, "named_parameters", lambda *a, **k: [("weight", torch.ones(2).as_subclass(Elsewhere))]
    )
    with pytest.raises(ValueError, match=r"'weight' is on cuda:0; call module.cpu\(\)"):
        symjax.from_torch(net)


def test_what_cannot_be_traced_is_named():
    x = drawn(1, 3)
    for make, message in [
        (lambda y: torch.nn.functional.dropout(y, 0.5, True), "draws random numbers"),
        (lambda y: y + torch.randn(2), "draws random numbers"),
        (
            lambda y: torch.nn.functional.adaptive_max_pool2d(y[None, None], 1),
            "lacks.*adaptive_max",
        ),
        (lambda y: y @ torch.ones(7, 7), "could not be run on these inputs.*TypeError"),
    ]:
        apply, params = symjax.from_torch(Returns(make))
        with pytest.raises(ValueError, match=message):
            jax.jit(apply)(params, x)
    with pytest.raises(ValueError, match=r"'inner\.bias' stand on one side only"):
        apply({"inner.weight": params["inner.weight"]}, x)
    with pytest.raises(ValueError, match=r"must have the shape \(2, 3\), got \(3, 2\)"):
        apply(params | {"inner.weight": params["inner.weight"].T}, x)


def test_a_buffer_without_a_value_is_named():
    net = Returns(lambda y: y)
    net.register_buffer("mask", torch.ones(2))
    with pytest.raises(ValueError, match=r"nothing says what its buffers mask hold"):
        symjax.from_torch(net.to("meta"))


def test_torch_is_left_as_it_was():
    code = (
        "import torch, symjax\n"
        "fast = torch.backends.mha.get_fastpath_enabled()\n"
        "apply, params = symjax.from_torch(torch.nn.Linear(2, 2))\n"
        "import numpy; apply(params, numpy.ones((1, 2), 'float32'))\n"
        "assert torch.backends.mha.get_fastpath_enabled() is fast\n"
        "assert not hasattr(torch.ops.aten.prod, 'dim_Dimname_of_nothing')\n"
        "assert torch.ones(2).device.type == 'cpu'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
