"""Does collecting survive? Kill -9 three times, then compare with an undisturbed run.

The candidates are a local OpenAI-compatible server over real HTTP. Counted are rows lost, rows
doubled and calls made twice; a call may be repeated only if it was in flight when the process was
killed. Also measured: the wall time of k = 8 self-evaluations against one. With `--port` the server
is a real model's that is already there (`llama-server -np 8`); its calls are not counted, and its
answers may differ between runs, so that rows are compared and not their words.

usage: python tests/benchmarks/collect_crash.py [--json] [--quick] [--port P]
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

from langchain_llm_router import Candidate, Price, SelfEvaluator
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.collect import Limits, TerminalWatcher, collect, load_journal
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import Case, YesNo
from tests.support.local_server import LocalServer

NAMES = ("weak", "strong")
CONCURRENCY = 4


def candidates(url: str) -> list[Candidate]:
    return [
        Candidate(
            name,
            ChatOpenAI(
                model=name,
                base_url=url,
                api_key="x",
                max_retries=0,
                stream_usage=True,
                temperature=0,
                max_tokens=16,
            ),
            Price(1.0, 2.0),
        )
        for name in NAMES
    ]


def run(url: str, journal: Path, n: int) -> None:
    """One process's work; the parent kills it."""
    rows = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(n)]
    with TerminalWatcher(yes=True) as watcher:
        collect(
            rows,
            candidates(url),
            journal=journal,
            grader="number",
            verifiers={"self": YesNo(8)},
            verify_last=True,
            limits=Limits(concurrency=CONCURRENCY),
            watcher=watcher,
        )


def start(url: str, journal: Path, n: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, __file__, "--work", url, str(journal), str(n)], stderr=subprocess.DEVNULL
    )


@contextmanager
def served(port: int | None, delay_s: float) -> Iterator[tuple[str, Counter | None]]:
    """The URL of a made-up server and its count of calls, or that of a real one."""
    if port is not None:
        yield f"http://127.0.0.1:{port}/v1", None
        return
    with LocalServer(delay_s=delay_s) as server:
        yield server.url, server.calls


def crash(folder: Path, n: int, kills: int, port: int | None) -> dict:
    """Kill a run several times and hold the result against an undisturbed one."""
    with served(port, 0.02) as (url, calls):
        whole, broken = folder / "whole.jsonl", folder / "broken.jsonl"
        assert start(url, whole, n).wait() == 0
        if calls is not None:
            calls.clear()
        total = len(whole.read_bytes().splitlines())
        for i in range(kills):
            process = start(url, broken, n)
            until = n + (total - n) * (i + 1) // (kills + 1)
            while not broken.exists() or len(broken.read_bytes().splitlines()) < until:
                assert process.poll() is None, "the run ended before it was killed"
                time.sleep(0.005)
            process.kill()
            process.wait()
        assert start(url, broken, n).wait() == 0
        repeated = None
        if calls is not None:
            # Questions differ from one another, but all verdicts are asked for in the same words.
            answers = {key: c for key, c in calls.items() if key[1].startswith("What is")}
            verdicts = sum(c for key, c in calls.items() if key not in answers)
            repeated = sum(c - 1 for c in answers.values()) + verdicts - len(NAMES) * n
    a, b = load_journal(whole), load_journal(broken)
    lines = [json.loads(line) for line in broken.read_text().splitlines()]
    keys = [
        tuple(line.get(name) for name in ("kind", "id", "candidate", "verifier"))
        for line in lines
        if line["kind"] != "run"
    ]
    same = [x == y for x, y in zip(a.answers, b.answers, strict=True)] if a.ids == b.ids else []
    return {
        "questions": n,
        "kills": kills,
        "rows": len(b.ids),
        "rows_lost": len(set(a.ids) - set(b.ids)),
        "facts_doubled": len(keys) - len(set(keys)),
        "same_answers": sum(same) / n,
        "identical": a.ids == b.ids
        and (
            port is not None
            or (
                all(same)
                and a.outcomes.quality.tolist() == b.outcomes.quality.tolist()
                and a.evaluations["self"].confidence.tolist()
                == b.evaluations["self"].confidence.tolist()
            )
        ),
        "calls_repeated": repeated,
        "calls_in_flight_at_most": kills * CONCURRENCY * len(NAMES),
    }


async def self_evaluation(delay_s: float, repeats: int, port: int | None) -> dict:
    """Wall time of eight verdicts against one, on a server that answers all at once."""
    with served(port, delay_s) as (url, _):
        (candidate, _) = candidates(url)
        case = Case([HumanMessage("What is 1 + 1?")], AIMessage("2"), candidate)

        async def seconds(verifier) -> float:
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                attempt = await VerifyOperation(
                    verifier, case, Attempt(candidate="weak"), {}
                ).aperform()
                times.append(time.perf_counter() - started)
                assert port is not None or attempt["confidence"] == 1.0
            return sorted(times)[len(times) // 2]

        await seconds(SelfEvaluator(8))
        one, eight = await seconds(SelfEvaluator(1)), await seconds(SelfEvaluator(8))
        single = await seconds(YesNo(8))
    return {
        "one_verdict_s": one,
        "eight_verdicts_s": eight,
        "eight_over_one": eight / one,
        "eight_in_one_request_s": single,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--port", type=int, default=None, help="of a real model's server")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        run(given.work[0], Path(given.work[1]), int(given.work[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = crash(Path(folder), n=40 if given.quick else 200, kills=3, port=given.port)
    figures |= asyncio.run(
        self_evaluation(delay_s=1.0, repeats=3 if given.quick else 9, port=given.port)
    )
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
