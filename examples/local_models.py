"""From questions to a router over local models in three steps: collect, fit, ask.

Offline, the recorded answers of three small models stand in. For live ones start servers that speak
OpenAI's protocol (llama.cpp, vLLM, Ollama; `tests/support/local_models/serve.sh` starts three), say
below where they are, and run this again.
"""

import tempfile
from pathlib import Path

from langchain_llm_router import ChatLLMRouter, route_of
from langchain_llm_router.collect import Question, collect
from langchain_llm_router.data import LocalModels, split_indices
from langchain_llm_router.training import fit_router
from langchain_llm_router.verification import AnswerLogprob

recorded = LocalModels.load()
questions = [
    Question(f"q{i}", query, reference)
    for i, (query, reference) in enumerate(
        zip(recorded.outcomes.queries, recorded.references, strict=True)
    )
]
# How sure a model was while it wrote: free, and small models' verdicts on themselves know less.
VERIFIERS = {"answer_logprob": AnswerLogprob()}

# With real keys: pool = parse_candidates(servers, prices, logprobs=True), from `.collect`, where
# servers = ["small=openai:qwen2.5-coder-0.5b@http://127.0.0.1:8102/v1", ...] and
# prices = ["small=0.05,0.05", ...] in dollars per million input and output tokens.
pool = recorded.candidates(("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"))


def main() -> None:
    known, unseen = split_indices(len(questions), [0.5, 0.1], seed=0)
    with tempfile.TemporaryDirectory() as folder:
        # Every fact is in the journal before the next call: a killed run goes on where it was.
        collected = collect(
            [questions[i] for i in known],
            pool,
            journal=Path(folder) / "run.jsonl",
            grader="exact",
            verifiers=VERIFIERS,
        )
        for j, name in enumerate(collected.outcomes.candidates):
            right = collected.outcomes.quality[:, j].mean()
            print(f"{name:20s} {right:.0%} of {len(collected.ids)} right")

        fitted = fit_router(collected, target="quality >= 0.9 * best")
        print(f"{fitted.standings[0].name}: {fitted.verdict.sentence}")
        fitted.save(Path(folder) / "router")
        router = ChatLLMRouter.load(Path(folder) / "router", candidates=pool, verifier=VERIFIERS)

    right, kept, spent = 0, 0, 0.0
    for i in unseen:
        answer = router.invoke(questions[i].query)
        record = route_of(answer)
        right += str(answer.text).strip() == questions[i].reference
        kept += record["candidate"] == pool[0].name
        spent += record["cost_usd"]
    print(
        f"{right} of {len(unseen)} unseen questions right, and kept {kept} answers of the small "
        f"model, for ${1000 * spent / len(unseen):.4f} per 1000 questions"
    )


if __name__ == "__main__":
    main()
