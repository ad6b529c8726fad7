"""What hostile candidates come to, and what the next one sees: a table, and exit code 1 where one is not as it should be.

    python scripts/hostile.py [--executor local|ray] [--only NAME ...] [--time-limit 1.5]

Every candidate goes through the executor twice: alone, and as the member of a batch, a probe behind it each time. `over` is
the time past the limit; a worker that was killed is given the job three times. `orphans` are processes that still live
below the executor, or anywhere with its mark. `next` says whether the probe's result is bit-equal to the one of a fresh worker.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evosearch.execution import make_executor
from tests.execution.hostile import CANDIDATES, ENTRY, MEMORY_LIMIT_GB, TIME_LIMIT
from tests.execution.observing import Observer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT)
    options = parser.parse_args()
    bad = 0
    print(f"{'candidate':<46} {'how':<6} {'status':<8} {'reason':<26} {'seconds':>8} {'over':>6} {'orphans':>7} {'files':>6} next")
    with make_executor(options.executor, ENTRY, "", workers=1, time_limit=options.time_limit, memory_limit_gb=MEMORY_LIMIT_GB) as executor:
        observer = Observer(executor, options.time_limit)
        for name in options.only:
            for how, before in (("alone", 0), ("batch", 2)):
                seen = observer.observe(name, before)
                problems = seen.problems(*CANDIDATES[name][1:])
                bad += bool(problems)
                print(
                    f"{name:<46} {how:<6} {seen.result.status:<8} {seen.result.reason or '':<26} {seen.seconds:>8.2f} {seen.over:>6.2f} "
                    f"{len(seen.orphans):>7} {seen.leaked:>+6} {'equal' if seen.next_is_equal else 'DIFFERS'}{' <- ' if problems else ''}{'; '.join(problems)}",
                    flush=True,
                )
    print(f"{len(options.only)} candidates, {bad} of {2 * len(options.only)} rows not as they should be")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
