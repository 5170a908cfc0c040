"""Other structures: mixtures, sets, graphs, factorisations, low-rank updates."""

import jax
import jax.numpy as jnp

from ._case import Case, model, normal

LEAKY = lambda z: jax.nn.leaky_relu(z, 0.1)


def mixture(p, x):
    """Two leaky experts weighed by a softmax."""
    weights = jax.nn.softmax(p["router"] @ x + p["rb"])
    hidden = LEAKY(jnp.einsum("ehn,n->eh", p["w1"], x) + p["b1"])
    return jnp.einsum("e,emh,eh->m", weights, p["w2"], hidden)


def deep_sets(p, x):
    phi = lambda row: p["w2"] @ jnp.tanh(p["w1"] @ row + p["b1"]) + p["b2"]
    pooled = jax.vmap(phi)(x).mean(0)
    return p["w4"] @ jnp.tanh(p["w3"] @ pooled + p["b3"])


def graph(p, x, adjacency):
    return adjacency @ LEAKY(adjacency @ x @ p["w1"]) @ p["w2"]


def canonical_polyadic(p, x, y):
    return p["c"] @ ((p["a"] @ x) * (p["b"] @ y))


def tucker(p, x, y):
    return p["c"] @ jnp.einsum("rst,s,t->r", p["core"], p["a"] @ x, p["b"] @ y)


def tensor_train(p, x, y, z):
    return jnp.einsum("i,ia,ajb,j,bk,k->", x, p["a"], p["core"], y, p["b"], z)[None]


def factorisation(p, users, items):
    """Embeddings by gather, their inner products."""
    return p["u"][users] @ p["v"][items].T


def factorisation_case(key):
    ids = jnp.array([0, 4, 2], jnp.int32)
    return factorisation, normal(key, u=(5, 2), v=(5, 2)), (ids, ids)


def low_rank_update(trained):
    """A frozen (or trained) matrix plus B A."""

    def build(key):
        params = normal(key, a=(2, 5), b=(4, 2), w=(4, 5))
        w = params["w"] if trained else params.pop("w")

        def apply(p, x):
            total = (p["w"] if trained else w) + p["b"] @ p["a"]
            return jnp.tanh(total @ x)

        return apply, params, (jnp.arange(5.0),)

    return build


def bag_of_words(p, ids):
    return jax.nn.log_softmax(p["u"] @ p["e"][ids].mean(0) + p["c"])


def tied_autoencoder(sigma):
    return model(lambda p, x: p["w"].T @ sigma(p["w"] @ x), (4,), w=(3, 4))


def hypernetwork(p, x, context):
    """The weights of a layer are a linear function of a context."""
    w = jnp.einsum("hnc,c->hn", p["make"], context)
    return p["out"] @ LEAKY(w @ x)


def two_towers(p, x, y):
    left, right = p["c"] @ jnp.tanh(p["a"] @ x), p["d"] @ jnp.tanh(p["b"] @ y)
    return (left @ right)[None]


CASES = (
    # 3 scales in each of 2 experts, the softmax shift of the router and of its bias
    Case(
        "mixture_of_experts",
        model(mixture, (4,), router=(2, 4), rb=(2,), w1=(2, 3, 4), b1=(2, 3), w2=(2, 3, 3)),
        2 * 3 + 4 + 1,
    ),
    Case(
        "deep_sets",
        model(
            deep_sets, (4, 3), w1=(4, 3), b1=(4,), w2=(2, 4), b2=(2,), w3=(4, 2), b3=(4,), w4=(2, 4)
        ),
        4 + 2,
        permutations=(4, 4),
        signs=8,
    ),
    Case("graph", model(graph, (4, 3), (4, 4), w1=(3, 4), w2=(4, 2)), 4, permutations=(4,)),
    Case(
        "canonical_polyadic",
        model(canonical_polyadic, (4,), (4,), a=(3, 4), b=(3, 4), c=(4, 3)),
        6,
        permutations=(3,),
        signs=6,
    ),
    Case(
        "tucker", model(tucker, (4,), (4,), a=(2, 4), b=(2, 4), c=(4, 3), core=(3, 2, 2)), 9 + 4 + 4
    ),
    Case(
        "tensor_train",
        model(tensor_train, (4,), (4,), (4,), a=(4, 2), core=(2, 4, 3), b=(3, 4)),
        4 + 9,
    ),
    Case("matrix_factorisation", factorisation_case, 4),
    Case("low_rank_update", low_rank_update(trained=False), 4),
    # w + b a: everything in a and b is redundant
    Case("low_rank_update_beside_trained", low_rank_update(trained=True), 4 * 2 + 2 * 5),
    # GL(3) on the embedding, and a constant moved from e into c, and the softmax shifts
    Case(
        "bag_of_words",
        lambda key: (
            bag_of_words,
            normal(key, e=(6, 3), u=(5, 3), c=(5,)),
            (jnp.array([0, 5, 2], jnp.int32),),
        ),
        9 + 3 + 3 + 1,
    ),
    Case("tied_autoencoder_linear", tied_autoencoder(lambda z: z), 3),
    Case("tied_autoencoder_tanh", tied_autoencoder(jnp.tanh), 0, permutations=(3,), signs=3),
    Case(
        "hypernetwork",
        model(hypernetwork, (3,), (2,), make=(4, 3, 2), out=(2, 4)),
        4,
        permutations=(4,),
    ),
    Case(
        "two_towers",
        model(two_towers, (3,), (3,), a=(4, 3), b=(4, 3), c=(2, 4), d=(2, 4)),
        4,
        permutations=(4, 4),
        signs=8,
    ),
)
