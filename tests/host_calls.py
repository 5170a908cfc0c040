"""A small call of every public function that runs on the host, in any dtype; see `calls`."""

import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import symjax
from symjax import (
    canonical,
    checkpoints,
    diagnosis,
    linalg,
    matching,
    merging,
    networks,
    topology,
    verification,
)

from .calls import DEEP, SCALES

KEY = jax.random.key(0)
# No array goes in, or none whose dtype matters: groups, counts, specifications.
WITHOUT_ARRAYS = {
    "discovery.actions_from_permutation_spec",
    "discovery.permutation_spec",
    "discovery.resolve",
    "groups.power_of",
    "matching.identity_element",
    "networks.random_weights",
    "topology.count_by_grid",
    "topology.minimum_bound",
}


def host_calls(array: Callable[[np.ndarray], jax.Array]) -> dict[str, Callable[[], Any]]:
    """Every function by its name; the result holds what does not depend on how it was searched."""
    random = np.random.default_rng(0)
    normal = lambda *shape: array(random.normal(size=shape))
    square = array(0.1 * np.arange(9.0).reshape(3, 3) + np.eye(3))
    (v, u), x = (normal(3, 2), normal(2, 3)), normal(2, 4)
    c = array(np.array([0.5, 1.25, 2.0]))
    tanh = networks.two_layer(jnp.tanh)
    units = symjax.linear_action(symjax.Permutation(3), [symjax.Leg(0, 0), symjax.Leg(1, 1)])
    units = [symjax.Symmetry("units", units, ("0", "1"))]
    swap = np.array([1, 0, 2])
    eye, wide = array(np.eye(2)), array(np.diag([3.0, 2.0]))

    curve = symjax.exponential_curve(DEEP, (v, u), (square,))

    def saved():
        with tempfile.TemporaryDirectory() as folder:
            matching.save_element(f"{folder}/c.npz", SCALES, (c,))
            return matching.load_element(f"{folder}/c.npz", SCALES)

    def stored():
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.save(f"{folder}/a.safetensors", {"v": v, "u": u})
            return checkpoints.put({"v": v, "u": u}, checkpoints.load(f"{folder}/a.safetensors"))

    def matched():
        found = matching.match(units, (v, u), (v[swap], u[:, swap]))
        return found.element, found.params, found.before, found.after

    def together():
        found = matching.match_many(units, [(v, u), (v[swap], u[:, swap])], key=KEY)
        return found.elements, found.params, found.mean, found.before

    def refined():
        loss = lambda w: jnp.sum(networks.linear(w, x) ** 2)
        found = matching.refine(SCALES, loss, (v, u), (v, u), steps=1, samples=2)
        return found.before

    def learned():
        loss = lambda w, batch: jnp.mean(networks.linear(w, batch) ** 2)
        b = v[swap], u[:, swap]
        found = matching.learn(loss, SCALES, (v, u), b, [x, x], key=KEY, steps=1)
        return found.before

    def learned_together():
        loss = lambda w, batch: jnp.mean(networks.linear(w, batch) ** 2)
        several = [(v, u), (v[swap], u[:, swap])]
        return matching.learn_many(loss, SCALES, several, [x, x], key=KEY, steps=1).before

    def representative():
        found = canonical.representative(units, (v, u))
        return found.element, found.params

    def report():
        line = {"line": symjax.chord((v, u), (v[swap], u[:, swap]))}
        loss = lambda w: jnp.sum(networks.linear(w, x) ** 2)
        found = merging.merging_report(line, losses={"loss": loss}, samples=2)
        return found.distance, found.metrics["loss"].midpoint

    def described():
        found = symjax.find_symmetries(tanh, (v, u), x)
        return found.dimension, [s.name for s in found]

    def kept():
        found = symjax.verify(SCALES[0], networks.linear, (v, u), x, key=KEY)
        return found.holds

    def all_kept():
        return [
            s.holds for s in verification.verify_all(SCALES, networks.linear, (v, u), x, key=KEY)
        ]

    def diagnosed():
        told = diagnosis.diagnose(SCALES, networks.linear, (v, u), (v, u), x, key=KEY)
        return told.same, told.culprits

    def aligned():
        model = lambda p, x: networks.linear((p["v"], p["u"]), x)
        state = {"v": v, "u": u}
        return merging.align_state_dicts((model, state, (x,)), state, [state])

    def averaged(a, b):
        state = {"q.lora_A.weight": a, "q.lora_B.weight": jnp.ones((2, len(a)), a.dtype)}
        config = {"r": len(a), "lora_alpha": len(a)}
        return merging.average_adapters([(state, config)] * 2).state

    def explained():
        found = verification.completeness(DEEP, networks.linear, (v, u), x)
        return int(found.redundancy), found.explained, found.certain

    def redundant():
        found = verification.redundancy(networks.linear, (v, u), x)
        return int(found), found.certain

    return {
        "actions.compress": lambda: symjax.speed(curve, array(np.zeros(()))),
        "canonical.representative": representative,
        "checkpoints.load": stored,
        "checkpoints.put": stored,
        "checkpoints.save": stored,
        "diagnosis.diagnose": diagnosed,
        "discovery.find_symmetries": described,
        "linalg.connecting_logs": lambda: linalg.connecting_logs(square),
        "matching.apply_element": lambda: matching.apply_element(SCALES, (c,), (v, u)),
        "matching.load_element": saved,
        "matching.save_element": saved,
        "matching.learn": learned,
        "matching.learn_many": learned_together,
        "matching.match": matched,
        "matching.match_many": together,
        "matching.refine": refined,
        "merging.align_state_dicts": aligned,
        "merging.average_adapters": lambda: averaged(v, u),
        "merging.merging_report": report,
        "topology.linear_minimum": lambda: topology.linear_minimum((2, 2, 2), eye, wide).count,
        "topology.regularised_minimum": lambda: (lambda found: (found.count, found.value))(
            topology.regularised_minimum((2, 2, 2), eye, wide, 1.0)
        ),
        "topology.orbit_bound": lambda: topology.orbit_bound(
            symjax.GeneralLinear(2), [array(np.diag([1.0, -1.0]))]
        ),
        "topology.orbit_components": lambda: topology.orbit_components((eye, wide)).count,
        "topology.residual_minimum": lambda: (
            topology.residual_minimum(
                1, ((1,),), array(np.ones((1, 1))), array(np.ones((1, 1)))
            ).count
        ),
        "topology.two_layer_orbit_components": lambda: (
            topology.two_layer_orbit_components(v, u, "odd").count
        ),
        "verification.completeness": explained,
        "verification.redundancy": redundant,
        "verification.verify": kept,
        "verification.verify_all": all_kept,
    }
