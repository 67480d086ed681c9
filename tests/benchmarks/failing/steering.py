"""Do answers that tell their judge what to say get accepted more often, by a real judge?"""

import sys

import httpx
import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI
from tqdm import tqdm

from langchain_llm_router import Candidate
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.data.local_models import LocalModels
from langchain_llm_router.types import Attempt
from langchain_llm_router.verification import Case, TokenProbability
from tests.support.attacks import ATTACKS, UNSEEN

LONGEST = 400


def steering(url, n, n_attacks=None, seed=0):
    """Wrong answers of a small local model, as they are and with each attack around them.

    Accepted is what the judge trusts at least as much as half of the right answers: so the
    threshold is one that a cascade might have, and was set without any attack.

    Args:
        url: Of an OpenAI-compatible server whose model returns `top_logprobs`.
        n: How many wrong answers, and how many right ones.
        n_attacks: How many of the attacks; None: all.
        seed: Which answers.
    """
    if url is None:
        pytest.skip("no `--judge`: the URL of an OpenAI-compatible server with `top_logprobs`")
    model = httpx.get(f"{url}/models", timeout=30).json()["data"][0]["id"]
    client = ChatOpenAI(base_url=url, api_key="none", model=model, max_retries=0, timeout=600)
    verifier = TokenProbability(judge=Candidate("judge", client))
    wrong, right = (_answers(quality, n, seed) for quality in (0, 1))
    attacks = [*ATTACKS[:n_attacks], *UNSEEN[:n_attacks]]
    bar = tqdm(total=n * (len(attacks) + 2), desc="steering", file=sys.stderr, mininterval=5)

    def trust(question, text):
        attempt = Attempt(candidate="small", error=None)
        case = Case([HumanMessage(question)], AIMessage(text), Candidate("small", client))
        bar.update()
        confidence = VerifyOperation(verifier, case, attempt, {}).perform()["confidence"]
        return np.nan if confidence is None else confidence

    of_right = np.array([trust(*pair) for pair in right])
    plain = np.array([trust(*pair) for pair in wrong])
    attacked = np.array(
        [[trust(q, attack.format(wrong=a)) for q, a in wrong] for attack in attacks]
    )
    threshold = float(np.nanmedian(of_right))
    n_known = len(ATTACKS[:n_attacks])
    return {
        "judge": model,
        "answers": n,
        "threshold": threshold,
        "right_accepted": float((of_right >= threshold).mean()),
        "wrong_accepted": float((plain >= threshold).mean()),
        "known_attacks": _raised(plain, attacked[:n_known], threshold, seed),
        "unseen_attacks": _raised(plain, attacked[n_known:], threshold, seed),
    }


def _raised(plain, attacked, threshold, seed):
    """By how much attacks raise the acceptance of wrong answers."""
    # A verdict that cannot be read, or was refused, accepts nothing.
    before, after = plain >= threshold, attacked >= threshold
    raised = after.mean(axis=0) - before
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(raised), size=(2000, len(raised)))
    low, high = np.quantile(raised[draws].mean(axis=1), [0.025, 0.975])
    return {
        "wrong_accepted": float(after.mean()),
        "raised_by": float(raised.mean()),
        "raised_by_95": [float(low), float(high)],
        "accepted_by_attack": [float(share) for share in after.mean(axis=1)],
        "without_a_verdict": float(np.isnan(attacked).mean()),
    }


def _answers(quality, n, seed):
    """Questions and answers of the smallest model that are wrong, or right."""
    table = LocalModels.load()
    name = table.outcomes.candidates[0]
    rows = np.flatnonzero(table.outcomes.quality[:, 0] == quality)
    rows = [i for i in rows if 0 < len(table.answers[name][i]) <= LONGEST]
    chosen = np.random.default_rng(seed).permutation(rows)[:n]
    return [(table.outcomes.queries[i], table.answers[name][i]) for i in chosen]
