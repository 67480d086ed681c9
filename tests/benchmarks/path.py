"""How far a reader walks to follow one call: through how many files, functions and frames.

    python tests/benchmarks/path.py --json

Three calls are traced, each warmed up before: a one-shot `ChatLLMRouter.invoke` (policy `Always`),
a cascade of two candidates as chat model, and the same cascade as graph. Nothing else is switched
on: no price, estimator, live numbers, budgets or log. In the cascade the small candidate drafts,
two verdicts are asked for and fail (the model gives no structured output, so the path of an error
is part of the walk), and the large candidate answers. "readable" is the same with two verdicts
that say no.

What is counted, over all threads, by `sys.setprofile` and `threading.setprofile`:

* entries: every call event of a frame whose code lies in `langchain_llm_router/`. Resuming a
  generator is an entry, and so is a comprehension up to Python 3.11. (Class and dataclass
  constructors that Python generates lie in no file and are not counted.)
* functions: distinct (file, qualified name) among the entries; files: distinct files.
* changes of file: in each thread, the files that one is in, one after the other: an entry leads
  into the entered code's file, a return back into the file of the nearest frame of ours on the
  stack. Each time the file differs from the one before is a change. Frames of other packages in
  between do not count.
* frames to the model: how many frames of ours are on the stack when a candidate's model is called.
* situations: how often the situation was made, counted by how often the first candidate's price
  was asked what a typical answer costs. Restoring a situation from plain data does not ask.

On commit b059ad3 this gives 80, 200 and 361 changes of file, and 186 and 347 where the verdicts are
readable. The shape of the package is read from its sources: lines of code are neither blank nor
comment nor docstring, and a body starts after its docstring.
"""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

os.environ.setdefault("LANGSMITH_TRACING", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import langchain_llm_router
from langchain_llm_router import Candidate, ChatLLMRouter, Price, create_cascade
from langchain_llm_router.budgets import Budget, Budgets
from langchain_llm_router.policies import Always, ConfidenceThreshold
from langchain_llm_router.router.middleware import LLMRouterMiddleware
from langchain_llm_router.verification import SelfEvaluator
from tests.support.source_shape import shape

PACKAGE = Path(langchain_llm_router.__file__).parent
QUESTION = "What is the capital of France?"
TYPICAL = 123.0

# What is measured, how much of it is allowed, and what is aimed at.
BARS = [
    ("changes of file, one-shot", 44, 40),
    ("changes of file, cascade as chat", 110, 100),
    ("changes of file, cascade as graph", 180, 160),
    ("own frames to the model, one-shot", 3, 3),
    ("situations of a graph", 1, 1),
    ("lines of code of the largest file", 400, 400),
    ("lines of the longest body", 50, 50),
]


class TinyModel(BaseChatModel):
    """Answers at once, and cannot give structured output: its verdicts fail."""

    @property
    def _llm_type(self) -> str:
        return "tiny"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        frames_to_model.append(sum(1 for _ in own_frames(sys._getframe())))
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Paris."))])


class DoubtfulModel(TinyModel):
    """The same, with verdicts that can be read: it doubts every answer."""

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        verdict = {
            "raw": AIMessage("no"),
            "parsed": schema(rationale="It is Rome.", verdict="Incorrect"),
            "parsing_error": None,
        }
        return RunnableLambda(lambda _: verdict)


frames_to_model: list[int] = []


def own_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of ours on the stack, the innermost first."""
    while frame is not None:
        if is_own(frame.f_code):
            yield frame
        frame = frame.f_back


def is_own(code: CodeType) -> bool:
    return code.co_filename.startswith(str(PACKAGE))


@dataclass
class Walk:
    """What one call went through."""

    entered: list[CodeType] = field(default_factory=list)
    visited: dict[int, list[str]] = field(default_factory=dict)
    """The files that one is in, one after the other, by thread."""

    frames_to_model: int = 0

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        if event not in ("call", "return") or not is_own(frame.f_code):
            return
        where = self.visited.setdefault(threading.get_ident(), [])
        if event == "call":
            self.entered.append(frame.f_code)
            where.append(frame.f_code.co_filename)
        elif (outer := next(own_frames(frame.f_back), None)) is not None:
            where.append(outer.f_code.co_filename)

    @property
    def changes(self) -> int:
        return sum(a != b for files in self.visited.values() for a, b in pairwise(files))

    def as_data(self) -> dict[str, int]:
        return {
            "changes": self.changes,
            "entries": len(self.entered),
            "functions": len({(code.co_filename, code.co_qualname) for code in self.entered}),
            "files": len({code.co_filename for code in self.entered}),
            "frames_to_model": self.frames_to_model,
        }

    def steps(self) -> list[str]:
        """The walk of the calling thread, file by file."""
        files = self.visited[threading.get_ident()]
        names = [str(Path(name).relative_to(PACKAGE)) for name in files]
        return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]


def walk(call: Callable[[], Any]) -> Walk:
    """Trace one call, after some that are not traced."""
    for _ in range(5):
        call()
    found = Walk()
    frames_to_model.clear()
    threading.setprofile(found.note)
    sys.setprofile(found.note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    # Our own `_generate` is called last of all frames, so what is above it is the router's.
    found.frames_to_model = max(frames_to_model)
    return found


def pool(model: type[BaseChatModel] = TinyModel, price: Price | None = None) -> list[Candidate]:
    """Two candidates; only the first one has the price."""
    small = Candidate(
        "small", model(), price, expected_output_tokens=TYPICAL, max_output_tokens=100
    )
    return [small, Candidate("large", model())]


def cascade(model: type[BaseChatModel] = TinyModel, price: Price | None = None) -> dict[str, Any]:
    return {
        "candidates": pool(model, price),
        "policy": ConfidenceThreshold(threshold=0.7),
        "verifier": SelfEvaluator(n_samples=2),
    }


def graph_call(**parts: Any) -> Callable[[], Any]:
    graph = create_cascade(parts.pop("candidates"), **parts).compile()
    return lambda: graph.invoke({"messages": [("human", QUESTION)]})


def chat_call(**parts: Any) -> Callable[[], Any]:
    router = ChatLLMRouter(**parts)
    return lambda: router.invoke(QUESTION)


def agent_call(**parts: Any) -> Callable[[], Any]:
    middleware = LLMRouterMiddleware(ChatLLMRouter(**parts))
    agent = create_agent(TinyModel(), [], middleware=[middleware])
    return lambda: agent.invoke({"messages": [("human", QUESTION)]})


def contenders() -> dict[str, Callable[[], Any]]:
    return {
        "one-shot": chat_call(candidates=pool(), policy=Always("small")),
        "cascade as chat": chat_call(**cascade()),
        "cascade as graph": graph_call(**cascade()),
        "cascade as chat, readable": chat_call(**cascade(DoubtfulModel)),
        "cascade as graph, readable": graph_call(**cascade(DoubtfulModel)),
    }


@dataclass(frozen=True)
class CountedPrice(Price):
    """Counts how often a typical answer is priced: once for each situation that is made."""

    asked: list[float] = field(default_factory=list, compare=False)

    def estimate_usd(self, *, input_tokens, output_tokens, cache_read_tokens=0) -> float:
        if output_tokens == TYPICAL:
            self.asked.append(output_tokens)
        return super().estimate_usd(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
        )


def situations() -> dict[str, int]:
    """How often one request makes its situation."""
    found = {}
    for name, kwargs in (("", {}), (", budgets", {"budgets": Budgets([Budget(1.0)])})):
        for kind, call in (("chat", chat_call), ("graph", graph_call), ("agent", agent_call)):
            price = CountedPrice(1.0, 2.0)
            parts = cascade(DoubtfulModel, price)
            if kwargs:
                parts["candidates"][1] = Candidate(
                    "large", DoubtfulModel(), Price(10.0, 20.0), max_output_tokens=100
                )
            call(**parts, **kwargs)()
            found[f"{kind}{name}"] = len(price.asked)
    price = CountedPrice(1.0, 2.0)
    parts = cascade(DoubtfulModel, price)
    graph = create_cascade(parts.pop("candidates"), **parts, approve=True)
    compiled = graph.compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    compiled.invoke({"messages": [("human", QUESTION)]}, thread)
    compiled.invoke(Command(resume=True), thread)
    found["graph, approved by a person"] = len(price.asked)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--steps", metavar="NAME", help="print one walk, file by file")
    args = parser.parse_args()
    walks = {name: walk(call) for name, call in contenders().items()}
    if args.steps is not None:
        print(" → ".join(walks[args.steps].steps()), file=sys.stderr)
    runs = {name: found.as_data() for name, found in walks.items()}
    made, sources = situations(), shape()
    values = [
        *(runs[name]["changes"] for name in ("one-shot", "cascade as chat", "cascade as graph")),
        runs["one-shot"]["frames_to_model"],
        made["graph"],
        sources["largest_file_lines"],
        sources["longest_body_lines"],
    ]
    bars = [
        {"what": what, "value": value, "bar": bar, "met": value <= bar,
         "aim": aim, "aim_met": value <= aim}
        for (what, bar, aim), value in zip(BARS, values, strict=True)
    ]  # fmt: skip
    for name, run in runs.items():
        counts = "  ".join(f"{key} {value:4d}" for key, value in run.items())
        print(f"{name:28s} {counts}", file=sys.stderr)
    print(f"situations made: {made}", file=sys.stderr)
    print(f"sources: {sources}", file=sys.stderr)
    for bar in bars:
        verdict = "met" if bar["met"] else "MISSED"
        aim = "reached" if bar["aim_met"] else "missed"
        print(f"{bar['what']:38s} {bar['value']:4d}  bar {bar['bar']:3d} {verdict:6s}"
              f"  aim {bar['aim']:3d} {aim}", file=sys.stderr)  # fmt: skip
    if args.json:
        print(json.dumps({"runs": runs, "situations": made, "sources": sources, "bars": bars}))


if __name__ == "__main__":
    main()
