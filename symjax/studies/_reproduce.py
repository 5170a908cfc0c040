"""All studies of the paper in one go, ending with one table of its statements."""

import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from . import APART, STUDIES
from ._files import MANIFEST, as_json, replace_file, sealed, told
from ._load import load
from ._lock import NAME as LOCK, Lock
from ._report import counts, table
from ._result import ALL_HELD, FAILED, NOT_ALL_HELD, Statement, StudyError
from ._runner import How, check_target, run_study

MARK = "reproduce"


def print_at_once(line: str) -> None:
    """Print, and let a log show it now: the next study may take a minute."""
    print(line, flush=True)


def reproduce(
    out: Path,
    *,
    seed: int = 0,
    how: How | None = None,
    say: Callable[[str], None] = print_at_once,
    watch: Callable[[str], Callable[[float, str], None]] | None = None,
) -> int:
    """Run every study of the paper at its default size under ``out``/<study>, and say what held.

    ``say`` takes finished lines, ``watch(study)`` gives that study's progress callable. A study
    that fails is reported and the others still run. Returns the exit status: `ALL_HELD`, `FAILED`
    where a study did not run, or `NOT_ALL_HELD`.

    Raises:
        StudyError: for an ``out`` that cannot be used or a missing package, before any work.
    """
    out, how = Path(out), how or How()
    # Studies that an interrupted run finished are no obstacle.
    check_target(out, MARK, how, ignore=(*STUDIES, LOCK))
    modules = {name: load(name) for name in STUDIES if name not in APART}
    for name in modules:
        check_target(out / name, name, how)
    with Lock(out):
        return _reproduce(modules, out, seed, how, say, watch or (lambda name: None))


def _reproduce(
    modules: dict[str, ModuleType],
    out: Path,
    seed: int,
    how: How,
    say: Callable[[str], None],
    watch: Callable[[str], Callable[[float, str], None] | None],
) -> int:
    rows: list[tuple[str, Statement]] = []
    failed, seconds = [], {}
    begin = time.perf_counter()
    for name, module in modules.items():
        start = time.perf_counter()
        try:
            result = run_study(name, module.Config(seed=seed), out / name, how, watch(name))
        except StudyError:
            raise
        except Exception:
            failed.append(name)
            say(f"{name}: FAILED\n{traceback.format_exc()}")
            continue
        seconds[name] = round(time.perf_counter() - start, 2)
        rows.extend((name, statement) for statement in result.statements)
        say(f"{name:<10} {seconds[name]:6.1f} s  {out / name}")
    text = _summary(rows, failed, time.perf_counter() - begin)
    mark = {"study": MARK, "seed": seed, "seconds": seconds, "failed": failed}
    with told(f"--out {out}"):
        replace_file(out / "summary.txt", text + "\n")
        replace_file(out / MANIFEST, as_json(sealed(mark)))
    say("\n" + text)
    if failed:
        return FAILED
    return ALL_HELD if all(s.as_expected for _, s in rows) else NOT_ALL_HELD


def _summary(rows: list[tuple[str, Statement]], failed: list[str], seconds: float) -> str:
    lines = [table(rows), "", f"{len(rows)} statements, {seconds:.0f} s."]
    for study, statement in rows:
        if not statement.held:
            why = f"{statement.name} ({study}) {counts(statement)}. {statement.detail}"
            lines.extend(["", *textwrap.wrap(why, 96)])
    if failed:
        lines.append(f"Studies that failed: {', '.join(failed)}.")
    return "\n".join(lines)


def quiet_progress(name: str) -> Callable[[float, str], None]:
    """Progress for a log: nothing until the study's line."""
    return lambda fraction, message: None


def bar_progress(name: str) -> Callable[[float, str], None]:
    """Progress for a terminal: one bar per study."""
    from tqdm import tqdm

    # The message stands where tqdm has the unit: it puts a comma before a postfix.
    layout = "{desc} {bar:30} {n:3.0f}%  {unit}"
    bar = tqdm(total=100, desc=f"{name:<10}", unit="", bar_format=layout, leave=False)

    def progress(fraction: float, message: str) -> None:
        bar.unit = message
        bar.update(round(100 * fraction) - bar.n)
        bar.refresh()
        if fraction >= 1:
            bar.close()

    return progress


def watcher() -> Callable[[str], Callable[[float, str], None]]:
    """Bars where a person is looking and tqdm is there, silence otherwise."""
    if not (sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"):
        return quiet_progress
    try:
        import tqdm as tqdm
    except ImportError:
        return quiet_progress
    return bar_progress
