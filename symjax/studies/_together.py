"""Several processes that run one study: how they join, what they agree in, and how they end.

What they say to each other beside the exchange of arrays goes through the store of keys that
`jax.distributed` keeps in process 0. A process that fails writes there why; in every other one a
thread waits for that word, since the main thread may be deep in an exchange that nobody will
answer. The same thread sees an interrupt, which the main thread would not see there either.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # the store of keys has no public name
from jax.experimental import multihost_utils

from ._files import as_json, differences
from ._result import FAILED, INTERRUPTED, StudyError

END, DONE, ACKNOWLEDGED, IDENTITY = "symjax/end", "symjax/done", "symjax/seen", "symjax/identity"
POLL, GRACE, HEARTBEAT, JOINING = 1.0, 3.0, 20, 60
"""Seconds: between looks at the store, for the others to read the last word, after which a process
that is silent counts as dead, and that the processes may take to find each other."""
_agreements = itertools.count()
_watchers: list[threading.Thread] = []
_watching, _over = threading.Event(), threading.Event()


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes; what is not given is looked up by jax, as under Slurm.

    Raises:
        StudyError: where they cannot be found.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=JOINING,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise StudyError(
            f"--distributed: {error} Outside of Slurm and TPU pods give --coordinator HOST:PORT, "
            "--processes N and --process I, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID."
        ) from error
    _watch_signals()
    watch()


def watch() -> None:
    """From now on this process ends when another one says that it failed."""
    if jax.process_count() > 1 and not _watching.is_set():
        _watching.set()
        _watchers.append(threading.Thread(target=_wait_for_the_end, daemon=True))
        _watchers[-1].start()


def agree_on(identity: dict[str, Any]) -> None:
    """StudyError, on every process, where one was started with anything else than process 0."""
    if jax.process_count() == 1:
        return
    place = f"{IDENTITY}/{next(_agreements)}"
    me, wrong = jax.process_index(), []
    _set(f"{place}/{me}", as_json(identity))
    if not me:
        for other in range(1, jax.process_count()):
            theirs = json.loads(_get(f"{place}/{other}"))
            wrong += differences(identity, theirs, "in process 0", f"in process {other}")
        _set(f"{place}/verdict", "; ".join(wrong) or "alike")
    if (verdict := _get(f"{place}/verdict")) != "alike":
        raise StudyError(f"the processes do not run the same: {verdict}.")


def agree(value: int) -> int:
    """Process 0's value, on every process."""
    if jax.process_count() == 1:
        return value
    with exchanging():
        return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """Tell an exchange that failed as what it means: another process is gone."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # jaxlib tells some as ValueError
        reason = " ".join(str(error).split())[:200]
        message = f"another process of this run has ended ({reason})."
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it may have said why
            message = _client().blocking_key_value_get(END, int(1000 * POLL))
        raise StudyError(message) from error


def end_all(act: Callable[[], int]) -> int:
    """The exit status of ``act``, which runs in every process; what fails in one ends them all.

    Where all goes well every process has the status of process 0.
    """
    if jax.process_count() == 1:
        return act()
    try:
        status = act()
    except BaseException as error:
        words = str(error) or type(error).__name__
        with contextlib.suppress(Exception):
            _set(END, f"process {jax.process_index()} ended the run: {words}")
        if not isinstance(error, StudyError | KeyboardInterrupt):
            sys.excepthook(type(error), error, error.__traceback__)
        else:
            _say(words)
        _leave(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED)
        raise
    if not jax.process_index():
        _set(DONE, str(status))
    status = int(_get(DONE))
    _over.set()
    for thread in _watchers:  # or the interpreter would end it within a call
        thread.join()
    jax.distributed.shutdown()
    return status


def _client() -> Any:
    return distributed.global_state.client


def _set(key: str, value: str) -> None:
    _client().key_value_set(key, value, allow_overwrite=True)


def _get(key: str) -> str:
    """The value of a key, as soon as there is one."""
    while True:
        try:
            return _client().blocking_key_value_get(key, int(1000 * POLL))
        except jax.errors.JaxRuntimeError as error:
            if _over.is_set():
                return ""
            if "DEADLINE_EXCEEDED" not in str(error):
                raise StudyError("process 0 of this run has ended.") from error


def _wait_for_the_end() -> None:
    try:
        message = _get(END)
    except StudyError as error:
        message = str(error)
    except AttributeError:  # the store is closed
        return
    if _over.is_set():
        return
    if message.startswith(f"process {jax.process_index()} "):
        return  # its own word
    with contextlib.suppress(Exception):
        _set(f"{ACKNOWLEDGED}/{jax.process_index()}", "")
    _say(message)
    _leave(FAILED)


def _leave(status: int) -> None:
    """End this process at once; process 0, which keeps the store, lets the others read it first."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if not jax.process_index():
        until = time.monotonic() + GRACE
        for other in range(1, jax.process_count()):
            left = max(1, int(1000 * (until - time.monotonic())))
            with contextlib.suppress(Exception):
                _client().blocking_key_value_get(f"{ACKNOWLEDGED}/{other}", left)
    # An orderly end would wait for processes that will not answer.
    os._exit(status)


def _say(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"symjax: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _watch_signals() -> None:
    """Let an interrupt end the run also where the main thread cannot take it."""

    def terminate(number, frame):
        raise KeyboardInterrupt("terminated")

    # jax takes SIGTERM for itself and goes on.
    signal.signal(signal.SIGTERM, terminate)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait():
        while os.read(read, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        time.sleep(GRACE)  # for the main thread, which can say more
        with contextlib.suppress(Exception):
            _set(END, f"process {jax.process_index()} ended the run: interrupted")
        _say("interrupted; what is committed is safe, and --resume goes on from there")
        _leave(INTERRUPTED)

    threading.Thread(target=wait, daemon=True).start()
