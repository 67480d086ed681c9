"""Does routing stay up? Failing servers, slow servers, killed workers, a killed Redis, fuzzing.

    python tests/benchmarks/faults.py --json            # everything, about half an hour
    python tests/benchmarks/faults.py --json --quick    # the same on fewer requests, under a minute
    python tests/benchmarks/faults.py --json --litellm /path/to/venv/bin/python
    python tests/benchmarks/faults.py --json --judge http://127.0.0.1:8103/v1
    python tests/benchmarks/faults.py --json --only fuzz --fuzz 100000
    python tests/benchmarks/faults.py --json --only money   # billed, booked and the limit, by fault

The servers are real HTTP servers on the loopback (`failing/servers.py`) and keep their own books:
what they billed is compared with what the router says it spent. Two of three endpoints fail 30 %
of their calls: 429 with Retry-After, 500, hangs, cut connections, garbage.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("LANGSMITH_TRACING", "false")

import pytest  # noqa: E402

from tests.benchmarks.failing import money, money_processes  # noqa: E402
from tests.benchmarks.failing.beside_litellm import beside_litellm  # noqa: E402
from tests.benchmarks.failing.clients import TIMEOUT_S  # noqa: E402
from tests.benchmarks.failing.drifting import recorded_endpoints, slowdown  # noqa: E402
from tests.benchmarks.failing.fuzzing import fuzz  # noqa: E402
from tests.benchmarks.failing.overhead import added, added_at_once  # noqa: E402
from tests.benchmarks.failing.processes import four_processes, killed_worker  # noqa: E402
from tests.benchmarks.failing.servers import USD_PER_ANSWER  # noqa: E402
from tests.benchmarks.failing.steering import steering  # noqa: E402
from tests.benchmarks.failing.storms import storm  # noqa: E402


def parts(args):
    """Every part by its name, in the size that was asked for."""
    quick = args.quick
    n, concurrent, timeout_s = (200, 40, 1.5) if quick else (10_000, 200, TIMEOUT_S)
    few = 400 if quick else 10_000

    def storming(n, concurrent, **kwargs):
        return lambda: storm(n, concurrent, timeout_s=timeout_s, **kwargs)

    return {
        "storm": storming(n, concurrent),
        "storm_spread": storming(n, concurrent, spread=True),
        "storm_streamed": storming(n // 5, concurrent, streamed=True),
        "storm_with_too_little_money": storming(
            n // 2, concurrent // 5, cap_usd=n // 4 * USD_PER_ANSWER
        ),
        "added": lambda: added(60 if quick else 2000),
        "added_at_once": lambda: (
            added_at_once(200, 200, latency_s=0.5, jitter_s=0.5)
            if quick
            else added_at_once(6000, 200)
        ),
        "added_to_streams": lambda: (
            added_at_once(200, 200, latency_s=0.5, jitter_s=0.5, streamed=True)
            if quick
            else added_at_once(6000, 200, streamed=True)
        ),
        "slowdown": lambda: slowdown(
            probe_every_s=1.5 if quick else 15.0, recover_s=8.0 if quick else 60.0
        ),
        "recorded_endpoints": lambda: recorded_endpoints(50 if quick else 1000, 2 if quick else 10),
        "four_processes": lambda: four_processes(few),
        "redis_killed": lambda: four_processes(few, kill_redis=True),
        "killed_worker": lambda: killed_worker(200 if quick else 2000),
        "beside_litellm": lambda: beside_litellm(
            args.litellm, n // 10, concurrent // 5, timeout_s=timeout_s
        ),
        "money": lambda: billed_and_booked(quick=quick),
        "steering": lambda: (
            steering(args.judge, 2, n_attacks=3) if quick else steering(args.judge, 40)
        ),
        "fuzz": lambda: fuzz(
            args.fuzz or (240 if quick else 100_000), 1 if quick else os.cpu_count()
        ),
    }


def billed_and_booked(*, quick):
    """What was billed, what was booked and the limit, fault by fault."""
    rows = money.rows(quick=quick)
    if not quick:
        rows += money_processes.rows()
    failed = [row["fault"] for row in rows if not row["holds"]]
    return {"rows": rows, "booked_covers_billed_within_the_limit": not failed, "failed": failed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quick", action="store_true", help="fewer requests, under a minute")
    parser.add_argument("--fuzz", type=int, help="number of fuzzing cases")
    parser.add_argument("--litellm", help="Python of a virtual environment that has litellm")
    parser.add_argument("--judge", help="URL (.../v1) of a server with a model that judges")
    parser.add_argument("--only", help="comma-separated parts")
    args = parser.parse_args()
    every = parts(args)
    result = {"quick": args.quick, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    for name in args.only.split(",") if args.only else every:
        started = time.perf_counter()
        try:
            result[name] = every[name]()
        except pytest.skip.Exception as reason:
            result[name] = {"skipped": str(reason)}
        result[name]["took_s"] = round(time.perf_counter() - started, 1)
        print(f"{name}: {json.dumps(result[name])}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
