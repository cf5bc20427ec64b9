"""Damage model files in many ways: each must compile or raise ModelError, nothing else.

    python benchmarks/fuzz.py [--flips 2000] [--cuts 200] [--jobs 2] [MODEL ...]

Every case has 60 s and 2 GB; a crash, a hang, another exception or more memory is a failure.
Prints one line a model and exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "models"
OWN = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
SECONDS = 60
LIMIT_BYTES = 2 << 30


@dataclass
class Tally:
    compiled: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    slowest_s: float = 0.0


def damages(size: int, cuts: int, flips: int, seed: int) -> list[tuple[str, int]]:
    """The cases of a file of `size` bytes: cut off at `cuts` places, and `flips` times one random
    bit flipped; as ("cut" or "bit", where)."""
    rng = random.Random(seed)
    cases = [("cut", n) for n in sorted(rng.sample(range(size), cuts))]
    return cases + [("bit", rng.randrange(8 * size)) for _ in range(flips)]


def damaged(data: bytes, how: str, where: int) -> bytes:
    """`data` cut off before byte `where`, or with bit `where` flipped."""
    if how == "cut":
        return data[:where]
    broken = bytearray(data)
    broken[where // 8] ^= 1 << (where % 8)
    return bytes(broken)


def try_all(path: str, cuts: int, flips: int, part: int, parts: int) -> Tally:
    """Every `parts`-th case of one file, in this process."""
    from midge import driver
    from midge.core.errors import ModelError
    from midge.core.options import CompileOptions
    from midge.frontends import tflite
    from midge.target import load_target

    driver.load_operators()
    target = load_target("cortex-m4")
    resource.setrlimit(resource.RLIMIT_AS, (2 * LIMIT_BYTES, 2 * LIMIT_BYTES))
    tally = Tally()

    def expired(signum: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expired)
    whole = Path(path).read_bytes()
    for how, where in damages(len(whole), cuts, flips, 1)[part::parts]:
        data = damaged(whole, how, where)
        start = time.monotonic()
        signal.alarm(SECONDS)
        try:
            driver.compile_graph(
                tflite.read(data, "model"), target, CompileOptions(search=False), model_hash="-"
            )
            tally.compiled += 1
        except ModelError:
            tally.refused += 1
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is a failure
            place = traceback.extract_tb(error.__traceback__)[-1]
            tally.failures.append(
                f"{how} {where}: {type(error).__name__}: {error} ({place.filename}:{place.lineno})"
            )
        finally:
            signal.alarm(0)
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - start)
    tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    models = options.models or [OWN, *sorted(SHARED.glob("*.tflite"))]
    failed = 0
    for path in models:
        # Fresh processes for each file, so that the peak is this file's.
        with ProcessPoolExecutor(options.jobs) as pool:
            parts = [
                pool.submit(try_all, str(path), options.cuts, options.flips, i, options.jobs)
                for i in range(options.jobs)
            ]
            tallies = [p.result() for p in parts]
        failures = [f for t in tallies for f in t.failures]
        peak = max(t.peak_bytes for t in tallies)
        if peak > LIMIT_BYTES:
            failures.append(f"{peak} bytes of memory")
        print(
            f"{path.stem:20} compiled {sum(t.compiled for t in tallies):5}"
            f"  refused {sum(t.refused for t in tallies):5}  failed {len(failures):3}"
            f"  peak {peak >> 20} MB  slowest {max(t.slowest_s for t in tallies):.1f} s",
            flush=True,
        )
        for failure in failures[:20]:
            print(f"    {failure}")
        failed += len(failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
