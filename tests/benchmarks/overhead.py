"""What a router adds to a call, against the bare model and LangChain's own ways of choosing.

    python tests/benchmarks/overhead.py --json

All contenders are timed in turns within one run over the same in-process model, in CPU time, so
that what the machine is otherwise busy with hits all alike; medians and ratios of medians are
reported, with a bootstrap interval of each ratio. Nothing leaves the process.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("LANGSMITH_TRACING", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import itertools

import numpy as np
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import ConfigurableField, RunnableBranch
from langgraph.graph import END, START, MessagesState, StateGraph
from rich.progress import Progress

from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.verification import Evaluation, Verifier

QUESTION = [HumanMessage("What is the capital of France?")]


class TinyModel(BaseChatModel):
    """Answers at once."""

    @property
    def _llm_type(self) -> str:
        return "tiny"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        usage = {"input_tokens": 6, "output_tokens": 1, "total_tokens": 7}
        message = AIMessage("Paris.", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages)


class Fixed(Verifier):
    """A verdict that costs nothing."""

    def evaluate(self, case):
        yield from ()
        return Evaluation(0.0)


class Listener(BaseCallbackHandler):
    """Makes runs be traced, and does nothing with them."""


def router(**kwargs) -> ChatLLMRouter:
    pool = [Candidate("small", TinyModel(), Price(1, 2)), Candidate("large", TinyModel())]
    return ChatLLMRouter(candidates=pool, policy=Always("small"), **kwargs)


def one_shot_contenders() -> dict[str, Callable[[], Any]]:
    small, large = TinyModel(), TinyModel()
    traced, untraced = router(), router(trace_decision=False)
    fallbacks = small.with_fallbacks([large])
    branch = RunnableBranch((lambda messages: len(messages) > 9, large), small)
    alternatives = small.configurable_alternatives(
        ConfigurableField(id="llm"), default_key="small", large=large
    )
    chosen = {"configurable": {"llm": "small"}}
    listening = {"callbacks": [Listener()]}
    return {
        "bare model": lambda: small.invoke(QUESTION),
        "router": lambda: traced.invoke(QUESTION),
        "router, trace_decision=False": lambda: untraced.invoke(QUESTION),
        "bare model, traced": lambda: small.invoke(QUESTION, listening),
        "router, traced": lambda: traced.invoke(QUESTION, listening),
        "router, traced, trace_decision=False": lambda: untraced.invoke(QUESTION, listening),
        "with_fallbacks": lambda: fallbacks.invoke(QUESTION),
        "RunnableBranch": lambda: branch.invoke(QUESTION),
        "configurable_alternatives": lambda: alternatives.invoke(QUESTION, chosen),
    }


def litellm_contenders() -> dict[str, Callable[[], Any]]:
    """LiteLLM's router over its own mock responses; empty where it is not installed."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        from litellm import Router
    except ImportError:
        return {}
    params = {"model": "openai/tiny", "api_key": "none", "mock_response": "Paris."}
    models = [{"model_name": name, "litellm_params": params} for name in ("small", "large")]
    lite = Router(model_list=models)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return {"LiteLLM Router": lambda: lite.completion("small", messages)}


def graph_contenders() -> dict[str, Callable[[], Any]]:
    """An escalating cascade, and a graph of as many trivial nodes making the same model calls."""
    pool = [Candidate("small", TinyModel(), Price(1, 2)), Candidate("large", TinyModel())]
    cascade = create_cascade(pool, policy=ConfidenceThreshold(threshold=0.5), verifier=Fixed())
    ours = cascade.compile()

    class State(MessagesState):
        trace: list[Any]

    bare = StateGraph(State)
    steps = ["predict", "d1", "small", "d2", "verify", "d3", "large", "d4"]
    models = {"small": TinyModel(), "large": TinyModel()}

    def node(name: str) -> Callable[[State], dict[str, Any]]:
        if name in models:
            return lambda state: {"trace": [models[name].invoke(state["messages"])]}
        if name == "d4":
            return lambda state: {"messages": [state["trace"][0]]}
        return lambda state: {}

    for name in steps:
        bare.add_node(name, node(name))
    bare.add_edge(START, steps[0])
    for first, second in itertools.pairwise(steps):
        if first.startswith("d"):
            bare.add_conditional_edges(first, lambda _, to=second: to, [second, END])
        else:
            bare.add_edge(first, second)
    bare.add_edge(steps[-1], END)
    theirs = bare.compile()
    return {
        "bare graph": lambda: theirs.invoke({"messages": QUESTION}),
        "cascade graph": lambda: ours.invoke({"messages": QUESTION}),
    }


def time_in_turns(
    contenders: dict[str, Callable[[], Any]], rounds: int, progress: Progress
) -> dict[str, list[float]]:
    """Seconds per call, one call of each contender per round."""
    for call in contenders.values():
        for _ in range(20):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    turns = list(contenders.items())
    shuffle = random.Random(0).shuffle
    for _ in progress.track(range(rounds), description=next(iter(contenders))):
        # In changing order, so that none always pays for the garbage of the one before it.
        shuffle(turns)
        for name, call in turns:
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    return seconds


def time_async(rounds: int) -> dict[str, list[float]]:
    small, traced = TinyModel(), router()

    async def measure() -> dict[str, list[float]]:
        calls = {"bare model, async": small.ainvoke, "router, async": traced.ainvoke}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for i in range(rounds + 20):
            for name, call in calls.items():
                started = time.process_time()
                await call(QUESTION)
                if i >= 20:
                    seconds[name].append(time.process_time() - started)
        return seconds

    return asyncio.run(measure())


def ratio(over: list[float], under: list[float], seed: int = 0) -> dict[str, float]:
    """Ratio of medians with a paired 95% bootstrap interval."""
    a, b = np.asarray(over), np.asarray(under)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(a), (1000, len(a)))
    ratios = np.median(a[rows], axis=1) / np.median(b[rows], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "ratio": round(float(np.median(a) / np.median(b)), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=None)
    args = parser.parse_args()
    rounds = args.rounds or (200 if args.quick else 2000)
    with Progress(disable=None) as progress:
        seconds = time_in_turns(one_shot_contenders(), rounds, progress)
        seconds |= time_in_turns(graph_contenders(), max(50, rounds // 5), progress)
        if lite := litellm_contenders():
            seconds |= time_in_turns(lite, max(50, rounds // 5), progress)
    seconds |= time_async(rounds)
    ways = ["with_fallbacks", "RunnableBranch", "configurable_alternatives"]
    others = [
        statistics.median(seconds[name]) for name in (*ways, "LiteLLM Router") if name in seconds
    ]
    pairs = {
        "router / bare": ("router", "bare model"),
        "router untraced decision / bare": ("router, trace_decision=False", "bare model"),
        "router traced / bare traced": ("router, traced", "bare model, traced"),
        "router traced, trace_decision=False / bare traced": (
            "router, traced, trace_decision=False",
            "bare model, traced",
        ),
        "router async / bare async": ("router, async", "bare model, async"),
        "cascade graph / bare graph": ("cascade graph", "bare graph"),
        **{f"router / {name}": ("router", name) for name in ways},
    }
    result = {
        "rounds": rounds,
        "median_us": {k: round(1e6 * statistics.median(v), 1) for k, v in seconds.items()},
        "ratios": {k: ratio(seconds[a], seconds[b]) for k, (a, b) in pairs.items()},
        "router_over_median_of_the_others": round(
            statistics.median(seconds["router"]) / statistics.median(others), 3
        ),
        "litellm": "measured" if "LiteLLM Router" in seconds else "skipped: not installed",
    }
    for name, value in result["median_us"].items():
        print(f"{name:45s} {value:9.1f} us", file=sys.stderr)
    for name, value in result["ratios"].items():
        print(f"{name:52s} {value['ratio']:6.2f} [{value['low']:.2f}, {value['high']:.2f}]",
              file=sys.stderr)  # fmt: skip
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
