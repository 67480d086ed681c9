"""What eight verdicts take: the time of eight against one, and the router's processor time.

    python tests/benchmarks/verdict_calls.py --json

The judge is OpenAI's client at a server on the loopback, in a process of its own, that answers
every request after 100 ms however many it has: eight requests at once, or one for all eight (`n`).
Beside it, the same client asks bare for one reply and for eight at once.
The router's processor time is measured over a judge in this process, less that of the same judge
asked bare, in turns.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("LANGSMITH_TRACING", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from tqdm import tqdm

from langchain_llm_router import Candidate, Price, SelfEvaluator
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import Case, Verdict, verification_prompt
from tests.support.fake_openai import FakeOpenAI

N, DELAY_S = 8, 0.1
MOST_RATIO, MOST_CPU_S = 1.5, 0.0005


class InstantJudge(BaseChatModel):
    """Answers at once with tool calls, as many as it is asked for."""

    n: int | None = None

    @property
    def _llm_type(self):
        return "instant"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=["verdict"])

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        args = {"rationale": "It is so.", "verdict": "Correct"}
        usage = {"input_tokens": 200, "output_tokens": 10, "total_tokens": 210}
        calls = [{"name": "Verdict", "args": args, "id": "1"}]
        messages = [
            AIMessage("", tool_calls=calls, usage_metadata=usage) for _ in range(self.n or 1)
        ]
        return ChatResult(generations=[ChatGeneration(message=it) for it in messages])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages)


def serve(pipe):
    with FakeOpenAI(delay_s=DELAY_S) as fake:
        pipe.send(fake.url)
        pipe.recv()


@contextmanager
def served():
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    yield here.recv()
    here.send(None)
    process.join(10)


class Verifying:
    """Verdicts of one judge, as a router asks for them."""

    def __init__(self, judge):
        self.case = Case([HumanMessage("What is 1 + 1?")], AIMessage("2"), judge)
        self.models = JudgeModels()

    def operation(self, n):
        attempt = Attempt(candidate=self.case.candidate.name)
        return VerifyOperation(SelfEvaluator(n), self.case, attempt, {}, models=self.models)


def walls(runner, url, repeats, *, draws_several):
    """Median seconds of one verdict and of eight, in turns, in threads and in tasks."""
    model = ChatOpenAI(model="judge", base_url=url, api_key="none", max_retries=0)
    verifying = Verifying(Candidate("judge", model, Price(1, 4), draws_several=draws_several))
    seconds = {(kind, n): [] for kind in ("sync", "async") for n in (1, N)}

    async def aperform(operation):
        return await operation.aperform()

    for i in tqdm(range(repeats + 3), desc="verdicts", file=sys.stderr):
        for (kind, n), took_s in seconds.items():
            started, operation = time.perf_counter(), verifying.operation(n)
            attempt = operation.perform() if kind == "sync" else runner.run(aperform(operation))
            assert attempt["verdicts"] == [True] * n, attempt
            if i >= 3:
                took_s.append(time.perf_counter() - started)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    return {
        kind: {
            "one_verdict_s": medians[kind, 1],
            "eight_verdicts_s": medians[kind, N],
            "eight_over_one": medians[kind, N] / medians[kind, 1],
        }
        for kind in ("sync", "async")
    }


def bare(runner, url, repeats):
    """The same of the client itself, without a router: eight requests at once."""
    model = ChatOpenAI(model="judge", base_url=url, api_key="none", max_retries=0)
    asked = model.with_structured_output(Verdict, include_raw=True)
    prompt = verification_prompt(Verifying(Candidate("judge")).case)
    seconds = {1: [], N: []}

    async def ask(n):
        await asyncio.gather(*(asked.ainvoke(prompt) for _ in range(n)))

    for i in range(repeats + 3):
        for n, took_s in seconds.items():
            started = time.perf_counter()
            runner.run(ask(n))
            if i >= 3:
                took_s.append(time.perf_counter() - started)
    one, eight = (statistics.median(took_s) for took_s in seconds.values())
    return {"one_verdict_s": one, "eight_verdicts_s": eight, "eight_over_one": eight / one}


def cpu(rounds, *, draws_several):
    """Median processor seconds for a verdict beyond those of the judge asked bare, in turns."""
    judge = Candidate("judge", InstantJudge(), Price(1, 4), draws_several=draws_several)
    verifying = Verifying(judge)
    asked = judge.model.with_structured_output(Verdict, include_raw=True)
    prompt = verification_prompt(verifying.case)
    times = {"router": [], "bare": []}

    async def measure():
        for i in range(rounds + 20):
            at = time.process_time()
            attempt = await verifying.operation(N).aperform()
            between = time.process_time()
            await asyncio.gather(*(asked.ainvoke(prompt) for _ in range(1 if draws_several else N)))
            last = time.process_time()
            assert attempt["verdicts"] == [True] * N
            if i >= 20:
                times["router"].append(between - at)
                times["bare"].append(last - between)

    asyncio.run(measure())
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "router_s_per_verdict": medians["router"] / N,
        "bare_s_per_verdict": medians["bare"] / N,
        "added_s_per_verdict": (medians["router"] - medians["bare"]) / N,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    repeats, rounds = (3, 50) if args.quick else (20, 500)
    result = {}
    with served() as url, asyncio.Runner() as runner:
        for name, several in (("eight requests", False), ("one request", True)):
            result[name] = {
                **({} if several else {"bare": bare(runner, url, repeats)}),
                "wall": walls(runner, url, repeats, draws_several=several),
                "cpu": cpu(rounds, draws_several=several),
            }
    ratios = [kind["eight_over_one"] for it in result.values() for kind in it["wall"].values()]
    added = [it["cpu"]["added_s_per_verdict"] for it in result.values()]
    result["eight_at_most_1.5_times_one"] = max(ratios) <= MOST_RATIO
    result["cpu_at_most_0.5_ms_per_verdict"] = max(added) <= MOST_CPU_S
    for name, value in result.items():
        print(f"{name}: {json.dumps(value)}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
