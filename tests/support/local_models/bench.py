"""Three real language models of different strength behind OpenAI-compatible local servers.

`get_models.sh DIR` fetches the weights, `serve.sh DIR` starts the servers. The product depends on
none of this.
"""

from collections.abc import Sequence

import httpx
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_llm_router import Candidate, Price
from langchain_llm_router.verification import YesNo

MODELS = {"smollm2-135m": 0.135, "qwen2.5-coder-0.5b": 0.494, "qwen2.5-coder-1.5b": 1.544}
"""Name → billions of parameters, from weak to strong."""

FIRST_PORT = 8101

USD_PER_MTOK_PER_BILLION = 0.10
"""The notional price: a dime per billion parameters and million tokens, in and out alike."""

PREAMBLE: list[BaseMessage] = [
    SystemMessage("Answer the multiple choice question with the letter of the correct choice."),
    HumanMessage("Which animal barks?\nA. cat\nB. horse\nC. dog\nD. hen\nAnswer:"),
    AIMessage("C"),
    HumanMessage("What do you use to cut paper?\nA. spoon\nB. scissors\nC. cup\nD. sock\nAnswer:"),
    AIMessage("B"),
]
"""Instruction and two examples before each question; servers keep them in their prompt cache."""

ANSWER = 'root ::= [A-E] | "0" | [1-9] [0-9]*'
"""What an answer may be: a letter or a number."""

LETTER = "root ::= [A-E]"
"""What an answer to a multiple choice question may be."""

VERIFIERS = {
    "self_k8": YesNo(
        8,
        question="Is this answer correct? Yes or No.",
        kwargs={"max_tokens": 1, "extra_body": {"grammar": 'root ::= "Yes" | "No"'}},
    ),
    "token_probability": YesNo(
        read="probability",
        question="Is this answer correct? Yes or No.",
        kwargs={"max_tokens": 1, "extra_body": {"grammar": 'root ::= "Yes" | "No"'}},
    ),
}


def candidates(first_port: int = FIRST_PORT, *, grammar: str = ANSWER) -> list[Candidate]:
    """The local models; each answers with a letter or number and tells its probability."""
    return [_candidate(name, first_port + i, grammar) for i, name in enumerate(MODELS)]


def _candidate(name: str, port: int, grammar: str) -> Candidate:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none",
        model=name,
        temperature=0,
        max_tokens=8,
        logprobs=True,
        top_logprobs=5,
        stream_usage=True,
        timeout=600,
        max_retries=0,
        extra_body={"grammar": grammar},
    )
    rate = MODELS[name] * USD_PER_MTOK_PER_BILLION
    return Candidate(name, model, Price(rate, rate), expected_output_tokens=2)


def alive(first_port: int = FIRST_PORT, names: Sequence[str] = tuple(MODELS)) -> bool:
    """Whether the servers of these models are there."""
    try:
        ports = [first_port + list(MODELS).index(name) for name in names]
        return all(httpx.get(f"http://127.0.0.1:{p}/health", timeout=10).is_success for p in ports)
    except httpx.HTTPError:
        return False
