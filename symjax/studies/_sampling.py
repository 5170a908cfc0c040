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
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._checks import require
from ._bounds import largest_array, require_memory
from ._pieces import (
    Kinds,
    OnHost,
    Piece,
    in_words,
    joined,
    legal,
    measure_or_put_aside,
    no_exit,
)
from ._result import Data, StudyError
from ._together import exchanging

One = Callable[[Any, Any], dict[str, Any]]
"""From (key, index) to named arrays: everything that is measured on one network."""

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

    def kinds(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What is known of one network's arrays before any is computed.

        Raises:
            StudyError: where programs do not give the same, or something that is not numbers.
        """
        return self._traced[0]

    @property
    def _largest(self) -> int:
        return self._traced[1]

    @functools.cached_property
    def _traced(self) -> tuple[dict[str, jax.ShapeDtypeStruct], int]:
        """The kinds of one network's arrays, and bytes of the largest array of its program."""
        if not self.programs:
            return {name: jax.ShapeDtypeStruct((), "float64") for name in self.names}, 0
        with jax.enable_x64(self.x64), no_exit("its programs were traced"):
            key = jax.eval_shape(lambda: jax.random.key(0))
            index = jax.ShapeDtypeStruct((), "int32")
            traced = [jax.make_jaxpr(p, return_shape=True)(key, index) for p in self.programs]
        found = [shapes for _, shapes in traced]
        for program, shapes in enumerate(found):
            where = f"program {program}"
            if not isinstance(shapes, dict) or not shapes:
                raise StudyError(f"{where}: the study returned {shapes}; expected named arrays.")
            for name, leaf in shapes.items():
                legal(name, where)
                if not hasattr(leaf, "shape") or np.dtype(leaf.dtype).kind not in "biufc":
                    raise StudyError(f"{where}: {name!r} is {leaf}; expected numbers.")
            if shapes != found[0]:
                raise StudyError(f"{where} gives {shapes}, and program 0 {found[0]}.")
        return found[0], max(largest_array(program) for program, _ in traced)

    def bytes(self) -> int:
        """Bytes of the arrays of all networks, uncompressed, as far as they are known."""
        return self.networks * sum(_bytes(leaf) for leaf in self.kinds().values())

    def require_room(self, chunk: int) -> None:
        """ValueError where a batch, a chunk or an array of all networks is more than the memory.

        The largest array that a program makes says what a batch needs at least.
        """
        kinds = self.kinds().values()
        if not kinds:
            return
        rows = min(-(-chunk // self.step) * self.step, self.networks)
        require_memory(rows * sum(map(_bytes, kinds)), f"a chunk of {rows} networks")
        largest = self.networks * max(map(_bytes, kinds))
        require_memory(largest, f"an array of {self.networks} networks")
        require_memory(self.width * self._largest, f"a batch of {self.width} networks")

    def scalars(self) -> list[str]:
        """The names of what is one number per network; nothing is computed."""
        return [name for name, leaf in self.kinds().items() if not leaf.shape]


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize


def sample(study: Study, start: int = 0, chunk: int = 1024) -> Iterator[Piece]:
    """Pieces from network ``start`` on, ``chunk`` networks each, in order.

    ``chunk`` is rounded up to whole windows. While the caller has one piece, the devices compute
    the next; no more than these two are ever held. Networks that raise are put aside, with the
    error in words.

    Raises:
        StudyError: where a study returns other rows, names, shapes or dtypes than it must.
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

    def run(program, block):
        return programs[program](*_arguments(block, study, mesh, rows))

    def launch(begin):
        stop = min(begin + windows * study.step, study.networks)
        blocks = _blocks(study, begin, stop)
        try:
            results = [(b, run(p, b)) for p, b in enumerate(blocks) if len(b)]
        except jax.errors.JaxRuntimeError:
            results = None  # told when it is collected
        return begin, stop, blocks, results

    def collect(begin, stop, blocks, results):
        if jax.process_count() > 1:
            return _collect(begin, stop, results)
        try:
            if results is not None:
                return _collect(begin, stop, results)
        except jax.errors.JaxRuntimeError:
            pass
        return _put_aside(begin, stop, blocks, run)

    ahead = launch(begins[0])
    for following in begins[1:]:
        now, ahead = ahead, launch(following)
        yield collect(*now)
    yield collect(*ahead)


def _put_aside(
    begin: int, stop: int, blocks: list[np.ndarray], run: Callable[[int, np.ndarray], Any]
) -> Piece:
    """The networks begin..stop of which some raise, batch by batch, and those put aside.

    A network that raises is found with its whole batch filled by itself. The others of its batch
    stay at their places, and have a sound one in its place beside them.
    """

    def attempt(program, batch):
        # One batch is the first row of the first device.
        return {k: v[0, 0] for k, v in jax.device_get(run(program, batch[None])).items()}

    rows: dict[int, Data] = {}
    aside: dict[int, str] = {}
    for program, block in enumerate(blocks):
        for batch in block:
            try:
                found, sound = attempt(program, batch), batch
            except jax.errors.JaxRuntimeError:
                for index in np.unique(batch):
                    try:
                        attempt(program, np.full_like(batch, index))
                    except jax.errors.JaxRuntimeError as error:
                        aside[int(index)] = in_words(error)
                sound = batch[~np.isin(batch, list(aside))]
                if not len(sound):
                    continue
                found = attempt(program, np.where(np.isin(batch, sound), batch, sound[0]))
            for lane, index in enumerate(batch):
                if index < stop and index not in aside:
                    rows[int(index)] = {name: values[lane] for name, values in found.items()}
    names = next(iter(rows.values())) if rows else {}
    data = {name: np.stack([rows[i][name] for i in sorted(rows)]) for name in names}
    return Piece(begin, stop, data, {i: e for i, e in aside.items() if i < stop})


def _sample_on_host(study: Study, on_host: OnHost, start: int, chunk: int) -> Iterator[Piece]:
    """As `sample`: every process takes a share of the chunk."""
    kinds = Kinds(study.names)
    for begin in range(start, study.networks, chunk):
        stop = min(begin + chunk, study.networks)
        share = -(-(stop - begin) // jax.process_count())
        own = np.arange(begin, stop)[share * jax.process_index() :][:share]
        with jax.enable_x64(study.x64):
            found = measure_or_put_aside(on_host, own, kinds) if len(own) else (kinds.empty(), {})
        yield Piece(begin, stop, *exchange(*found))


def exchange(data: Data, aside: Mapping[int, str]) -> tuple[Data, dict[int, str]]:
    """The rows of all processes in their order, and all that is put aside, on each of them."""
    if jax.process_count() == 1:
        return data, dict(aside)
    # As bytes: arrays would have to be of one size, and would be rounded to 32 bits without x64.
    packed = io.BytesIO()
    sent: dict[str, Any] = {f"={name}": values for name, values in data.items()}
    np.savez(packed, aside=json.dumps(list(aside.items())), **sent)
    own = np.frombuffer(packed.getvalue(), np.uint8)
    with exchanging():
        lengths = multihost_utils.process_allgather(np.array([len(own)], np.int32)).ravel()
        padded = np.pad(own, (0, int(lengths.max()) - len(own)))
        buffers = multihost_utils.process_allgather(padded)
    kinds, pieces, every = Kinds(), [], {}
    for process, buffer in enumerate(buffers):
        with np.load(io.BytesIO(buffer[: lengths[process]].tobytes())) as stored:
            found = {name[1:]: stored[name] for name in stored.files if name.startswith("=")}
            every |= {int(i): error for i, error in json.loads(str(stored["aside"]))}
        if found:
            rows = len(next(iter(found.values())))
            pieces.append(kinds.check(found, rows, f"process {process}"))
    return joined(pieces), every


def measure(study: Study, chunk: int = 1024) -> Data:
    """All networks of a study, in memory, but those that are put aside."""
    return joined([piece.data for piece in sample(study, chunk=chunk)])


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


def _collect(begin: int, stop: int, results: list[tuple[np.ndarray, Any]]) -> Piece:
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
    return Piece(begin, stop, data, {})


def _gather(result: Any) -> Data:
    """Results of all devices of all processes, on every host.

    One process only copies: a collective among the devices of a CPU gives up when one of them is
    40 seconds behind, which is nothing unusual on a busy machine. Processes wait for their own
    devices first, so that the exchange itself is short.
    """
    if jax.process_count() == 1:
        return jax.device_get(result)
    ready = jax.block_until_ready(result)
    with exchanging():
        return multihost_utils.process_allgather(ready, tiled=True)
