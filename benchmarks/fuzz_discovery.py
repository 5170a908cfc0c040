"""Random programs: no false symmetry, no crash, and the share of those of which all is found.

    python benchmarks/fuzz_discovery.py [--programs 5000] [--first 0] [--ids int8 int32 ...]

Each program is read by `find_symmetries` without its own check; then every exact row is applied,
with either determinant, at two places, and the directions are counted beside the Jacobian's. The
seeds of what went wrong are printed: `tests.discovery.fuzz.program(seed, ids)` makes them again.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.discovery.fuzz import KINDS_OF_IDS, judge, program


def run(ids, seeds):
    """Judge programs and print a line of what was found."""
    start, exact, false, wrong, crashes = time.process_time(), 0, 0, 0, 0
    for number, seed in enumerate(seeds, 1):
        made = program(seed, ids)
        verdict = judge(made)
        exact += verdict.dimension == verdict.true and not verdict.crash
        false += bool(verdict.false)
        wrong += bool(verdict.wrong)
        crashes += bool(verdict.crash)
        for what in (*verdict.false, *verdict.wrong, verdict.crash):
            if what:
                print(f"  {ids} {seed}: {what}\n    {made.text}", flush=True)
        if number % 500 == 0 or number == len(seeds):
            print(
                f"{ids:7} {number} programs: {false} false, {wrong} wrong dimensions, {crashes} "
                f"crashes, found = true in {exact / number:.1%}, "
                f"{time.process_time() - start:.0f} CPU s",
                flush=True,
            )
            jax.clear_caches()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--ids", nargs="+", default=KINDS_OF_IDS, choices=KINDS_OF_IDS)
    options = parser.parse_args()
    with jax.enable_x64(True):
        for ids in options.ids:
            run(ids, range(options.first, options.first + options.programs))


if __name__ == "__main__":
    main()
