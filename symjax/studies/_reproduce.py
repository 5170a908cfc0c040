"""All studies of the paper in one go, ending with one table of its statements."""

import json
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import APART, STUDIES
from ._log import replace_file
from ._report import table
from ._result import Statement, StudyError
from ._runner import How, check_target, load, run_study

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
) -> bool:
    """Run every study of the paper at its default size under ``out``/<study>, and say what held.

    ``say`` takes finished lines, ``watch(study)`` gives that study's progress callable. A study
    that fails is reported and the others still run. Returns whether all of them ran.

    Raises:
        StudyError: for an ``out`` that cannot be used or a missing package, before any work.
    """
    out, how = Path(out), how or How()
    # Studies that an interrupted run finished are no obstacle.
    check_target(out, MARK, how.overwrite, ignore=STUDIES)
    modules = {name: load(name) for name in STUDIES if name not in APART}
    for name in modules:
        check_target(out / name, name, how.overwrite)
    rows: list[tuple[str, Statement]] = []
    failed, seconds = [], {}
    begin = time.perf_counter()
    for name, module in modules.items():
        start = time.perf_counter()
        try:
            config, progress = module.Config(seed=seed), watch(name) if watch else None
            result = run_study(name, config, out / name, how, progress)
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
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "summary.txt", text + "\n")
        replace_file(out / "manifest.json", json.dumps(mark, indent=2) + "\n")
    except OSError as error:
        raise StudyError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    say("\n" + text)
    return not failed


def _summary(rows: list[tuple[str, Statement]], failed: list[str], seconds: float) -> str:
    lines = [table(rows), "", f"{len(rows)} statements, {seconds:.0f} s."]
    for study, statement in rows:
        if not statement.held:
            why = f"{statement.name} ({study}) did not hold: {statement.detail}"
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
