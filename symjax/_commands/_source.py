"""The model that a command is about: SOURCE as a function, its parameters and inputs."""

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._checks import require, require_callable, require_floating_leaves
from ..checkpoints import load, put, save
from ..checkpoints._names import flat, paired


@dataclass(frozen=True)
class Source:
    """A model, and how checkpoints of it are read and written.

    Attributes:
        apply: the model, ``apply(params, *inputs)``.
        params: its parameters, in the precision in which it is run; abstract without weights.
        inputs: the arrays that it is run on.
        stored: what a checkpoint of it holds: abstract arrays by the names of the leaves, with the
            dtypes of the file. They differ from those of ``params`` where a model of low precision
            is run in float32.
        tied: other names that a checkpoint may have for a leaf, to the leaf's own.
    """

    apply: Callable[..., Any]
    params: PyTree
    inputs: tuple[Any, ...]
    stored: PyTree
    tied: Mapping[str, str] = field(default_factory=dict)

    def read(self, path: str | os.PathLike) -> PyTree:
        """The parameters of a checkpoint, in the precision in which the model is run."""
        try:
            values = put(self.stored, load(path), tied=self.tied)
        except ValueError as error:
            error.args = (f"{path}: {error}",)
            raise
        return jax.tree.map(lambda x, leaf: x.astype(leaf.dtype), values, self.params)

    def write(self, path: str | os.PathLike, params: PyTree, like: str | os.PathLike) -> None:
        """Parameters as a checkpoint like another one, rounded to its precision."""
        rounded = jax.tree.map(lambda x, leaf: x.astype(leaf.dtype), params, self.stored)
        leaves = flat(rounded)
        names = {name: [name] for name in leaves}
        for other, name in self.tied.items():
            names[name].append(other)
        held = paired(names, load(like), f"{like}")
        save(path, {other: leaves[name] for name in held for other in held[name]}, like=like)


def open_source(word: str, weights: Path | None = None, *, shapes: bool = False) -> Source:
    """What SOURCE names: a folder of Hugging Face, or ``FILE.py:NAME``.

    ``weights`` is a checkpoint that takes the place of the source's own. With ``shapes`` alone
    wanted, a model of a folder is not given weights.

    Raises ValueError or ImportError that says in one line what is wrong.
    """
    file, colon, name = word.rpartition(":")
    if colon and file.endswith(".py"):
        source = _of_file(Path(file), name)
    elif Path(word).is_dir():
        from ._huggingface import of_folder

        source = of_folder(Path(word), shapes=shapes and weights is None)
    else:
        raise ValueError(
            f"SOURCE must be a folder of Hugging Face (config.json and weights) or FILE.py:NAME, "
            f"got {word!r}" + (", which does not exist." if not Path(word).exists() else ".")
        )
    if weights is None:
        return source
    return Source(source.apply, source.read(weights), source.inputs, source.stored, source.tied)


def _of_file(file: Path, name: str) -> Source:
    """What the function of a file returns, which is executed."""
    require(file.is_file(), f"SOURCE names a file that does not exist: {file}.")
    spec = importlib.util.spec_from_file_location(f"symjax_source_{file.stem}", file)
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses in it look themselves up
    _told(lambda: loader.exec_module(module), file)
    function = getattr(module, name, None)
    functions = [k for k, v in vars(module).items() if inspect.isfunction(v) and k[0] != "_"]
    require(
        callable(function),
        f"SOURCE names {name!r}, which {file} does not have; its functions are "
        f"{', '.join(functions) or 'none'}.",
    )
    made = _told(function, file)
    require(
        isinstance(made, tuple) and len(made) == 3,
        f"{file}:{name} must return (apply, params, inputs), got {type(made).__name__}"
        f"{f' of {len(made)}' if isinstance(made, tuple) else ''}.",
    )
    apply, params, inputs = made
    require_callable(f"apply of {file}:{name}", apply)
    require_floating_leaves(params, complex_too=True)
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    leaf = lambda x: x if hasattr(x, "dtype") else np.asarray(x)
    params = jax.tree.map(leaf, params)
    return Source(apply, params, tuple(inputs), params)


def _told(run, file):
    """What a function of the user's returns; an error in it is told in one line, with its place."""
    try:
        return run()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename) == file]
        raise ValueError(
            f"{file}{f', line {own[-1]}' if own else ''}: {type(error).__name__}: {error}"
        ) from error
