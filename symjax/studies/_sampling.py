"""A study as a pure function of (key, index), run over many indices on every device there is.

The result of network i is to be the same to the bit on any number of devices and processes, for any
chunk and after any interruption. Three things see to it. Its key is ``fold_in(root, i)``. The
networks that share one ``vmap`` are always the same ones at the same places: windows of indices
begin at multiples of their length and are never split. And that batch is the body of a loop whose
length is known only when it runs, so that the compiler cannot fuse it with what is around it.
Devices share no data and take part in no collective.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._checks import require
from ._result import Data

One = Callable[[Any, Any], dict[str, Any]]
"""From (key, index) to named arrays: everything that is measured on one network."""
OnHost = Callable[[np.ndarray], Data]
"""From indices to the arrays of their networks, in the same order."""

ALL, SPLIT = PartitionSpec(), PartitionSpec("networks")
# What a batch for a CPU's cache is multiplied by where thousands of threads wait; not measured.
ACCELERATOR_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Study:
    """The networks of a study; none, where it runs as a whole.

    Attributes:
        networks: how many; they are numbered from 0.
        programs: each is compiled once. All give the same names, dtypes and shapes; most studies
            have one, networks of several padded sizes have one for each size.
        seed: of the root key.
        batch: networks that are computed side by side.
        choose: from indices to the program of each; needed for more than one program.
        window: where there are several programs, indices that are sorted into batches together.
        x64: whether it runs with 64-bit types.
        on_host: in place of programs, for what cannot be traced, or calls compiled functions of
            its own. Network i is to be the same to the bit whatever is asked for beside it.
        names: what ``on_host`` measures, one number a network each.
    """

    networks: int = 0
    programs: tuple[One, ...] = ()
    seed: int = 0
    batch: int = 1
    choose: Callable[[np.ndarray], np.ndarray] | None = None
    window: int = 1
    x64: bool = False
    on_host: OnHost | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self):
        some = int(bool(self.programs) or self.on_host is not None)
        for name, least in (("networks", some), ("batch", 1), ("window", 1)):
            value = getattr(self, name)
            require(value >= least, f"`{name}` must be at least {least}, got {value}.")
        require(self.networks < 2**31, f"`networks` must be below 2^31, got {self.networks}.")
        require(
            len(self.programs) <= 1 or self.choose is not None,
            f"`choose` is needed for {len(self.programs)} programs.",
        )

    @property
    def width(self) -> int:
        """Networks of one batch on the devices present."""
        return self.batch if jax.default_backend() == "cpu" else self.batch * ACCELERATOR_BATCH

    @property
    def step(self) -> int:
        """Chunks are multiples of this, so that no window is ever split."""
        return max(self.window, self.width) if self.choose else self.width

    def scalars(self) -> list[str]:
        """The names of what is one number per network; nothing is computed."""
        if not self.programs:
            return list(self.names)
        with jax.enable_x64(self.x64):
            key = jax.eval_shape(lambda: jax.random.key(0))
            index = jax.ShapeDtypeStruct((), "int32")
            shapes = jax.eval_shape(self.programs[0], key, index)
        return [name for name, leaf in shapes.items() if not leaf.shape]


def sample(study: Study, start: int = 0, chunk: int = 1024) -> Iterator[tuple[int, Data]]:
    """Pieces (begin, arrays) from network ``start`` on, ``chunk`` networks each, in order.

    ``chunk`` is rounded up to whole windows. While the caller has one piece, the devices compute
    the next; no more than these two are ever held.
    """
    require(chunk >= 1, f"`chunk` must be at least 1, got {chunk}.")
    if study.on_host is not None:
        yield from _sample_on_host(study, study.on_host, start, chunk)
        return
    windows = -(-chunk // study.step)
    begins = range(start, study.networks, windows * study.step)
    if not begins:
        return
    require(start % study.step == 0, f"`start` must be a multiple of {study.step}, got {start}.")
    mesh = jax.make_mesh((jax.device_count(),), ("networks",), (jax.sharding.AxisType.Auto,))
    rows = -(-windows * -(-study.step // study.width) // mesh.size)
    with ThreadPoolExecutor(2) as pool:  # compilation releases Python's lock
        compile_one = functools.partial(_compile, study, mesh, rows)
        programs = list(pool.map(compile_one, study.programs))

    def launch(begin):
        stop = min(begin + windows * study.step, study.networks)
        blocks = _blocks(study, begin, stop)
        return (
            begin,
            stop,
            [
                (block, program(*_arguments(block, study, mesh, rows)))
                for block, program in zip(blocks, programs, strict=True)
                if len(block)
            ],
        )

    ahead = launch(begins[0])
    for following in begins[1:]:
        now, ahead = ahead, launch(following)
        yield _collect(*now)
    yield _collect(*ahead)


def _sample_on_host(
    study: Study, on_host: OnHost, start: int, chunk: int
) -> Iterator[tuple[int, Data]]:
    """As `sample`: every process takes a share of the chunk."""
    for begin in range(start, study.networks, chunk):
        indices = np.arange(begin, min(begin + chunk, study.networks))
        share = -(-len(indices) // jax.process_count())
        # The last process fills up its share, as all must be of one size to be exchanged.
        own = np.minimum(np.arange(share) + share * jax.process_index(), len(indices) - 1)
        with jax.enable_x64(study.x64):
            found = on_host(indices[own])
        if jax.process_count() > 1:
            with jax.enable_x64(True):  # or the exchange would round to 32 bits
                found = multihost_utils.process_allgather(found, tiled=True)
        yield begin, {name: values[: len(indices)] for name, values in found.items()}


def measure(study: Study, chunk: int = 1024) -> Data:
    """All networks of a study, in memory."""
    pieces = [piece for _, piece in sample(study, chunk=chunk)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _compile(study: Study, mesh: Mesh, rows: int, one: One) -> jax.stages.Compiled:
    """One program: (seed, indices (devices, rows, width), rounds) -> arrays of that shape.

    Every device goes through the first ``rounds`` of its rows.
    """

    def on_device(seed, indices, rounds):
        root, indices = jax.random.wrap_key_data(seed), indices[0]
        several = jax.vmap(lambda i: one(jax.random.fold_in(root, i), i))
        empty = jax.tree.map(
            lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype),
            jax.eval_shape(several, indices[0]),
        )

        def row(r, filled):
            found = several(indices[r])
            return jax.tree.map(lambda old, new: old.at[r].set(new), filled, found)

        filled = jax.lax.fori_loop(0, rounds, row, empty)
        return jax.tree.map(lambda leaf: leaf[None], filled)

    networks = jax.shard_map(
        on_device, mesh=mesh, in_specs=(ALL, SPLIT, ALL), out_specs=SPLIT, check_vma=False
    )
    # The setting is per thread, so it is made here.
    with jax.enable_x64(study.x64):
        example = _arguments(np.zeros((1, study.width), np.int32), study, mesh, rows)
        return jax.jit(networks).lower(*example).compile()


def _arguments(block: np.ndarray, study: Study, mesh: Mesh, rows: int) -> tuple[Any, ...]:
    """What a program takes: batches are dealt to the devices in turn."""
    dealt = np.zeros((rows * mesh.size, study.width), np.int32)
    dealt[: len(block)] = block
    dealt = dealt.reshape(rows, mesh.size, -1).swapaxes(0, 1)
    seed = np.asarray(jax.random.key_data(jax.random.key(study.seed)))
    rounds = np.asarray(-(-len(block) // mesh.size), np.int32)

    def place(array, spec):
        # From host memory to every process's own devices, without any communication.
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(array.shape, sharding, lambda part: array[part])

    return place(seed, ALL), place(dealt, SPLIT), place(rounds, ALL)


def _blocks(study: Study, begin: int, stop: int) -> list[np.ndarray]:
    """For every program the batches of indices, (batches, width), that cover begin..stop.

    A batch is filled up with the indices that follow, or its last one again, and those results
    are dropped: what is computed beside a network must not depend on how many are asked for.
    """
    width, found = study.width, [[] for _ in study.programs]
    for start in range(begin, stop, study.step):
        window = np.arange(start, start + study.step, dtype=np.int32)
        chosen = np.zeros_like(window) if study.choose is None else study.choose(window)
        for program, batches in enumerate(found):
            members = window[chosen == program]
            if len(members):
                short = -len(members) % width
                members = np.concatenate([members, np.repeat(members[-1:], short)])
                batches.extend(row for row in members.reshape(-1, width) if row[0] < stop)
    return [np.array(batches, np.int32).reshape(-1, width) for batches in found]


def _collect(begin: int, stop: int, results: list[tuple[np.ndarray, Any]]) -> tuple[int, Data]:
    """The arrays of begin..stop in the order of their indices."""
    data: dict[str, np.ndarray] = {}
    for block, result in results:
        indices = block.ravel()
        wanted = indices < stop
        for name, values in _gather(result).items():
            # (devices, rows, width, ...): undo the dealing.
            dealt = values.swapaxes(0, 1).reshape(-1, *values.shape[3:])[: len(indices)]
            if name not in data:
                data[name] = np.empty((stop - begin, *dealt.shape[1:]), dealt.dtype)
            data[name][indices[wanted] - begin] = dealt[wanted]
    return begin, data


def _gather(result: Any) -> Data:
    """Results of all devices of all processes, on every host.

    One process only copies: a collective among the devices of a CPU gives up when one of them is
    40 seconds behind, which is nothing unusual on a busy machine. Processes wait for their own
    devices first, so that the exchange itself is short.
    """
    if jax.process_count() == 1:
        return jax.device_get(result)
    return multihost_utils.process_allgather(jax.block_until_ready(result), tiled=True)
