"""From votes between many models to a router of two: CSV, Elo, tiers, strong and weak, router.

The votes are made up here, in the format of Chatbot Arena's 55,000: the models differ in hard
tasks, and all of them can chat.
"""

import csv
import json
import random
import tempfile
from pathlib import Path

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.data import Battles, clean_text, load_arena
from langchain_llm_router.estimators import BradleyTerry, ratings
from langchain_llm_router.policies import Threshold
from langchain_llm_router.testing import ScriptedChatModel

SKILL = {"titan": 3.2, "atlas": 3.0, "orion": 1.1, "lyra": 1.0, "vega": 0.9, "moth": -1.0}
TASKS = ("Write a {} sort in C", "Prove that {} sums converge", "Debug my {} parser")
CHAT = ("Say hello in a {} way", "Name a {} colour", "Tell me a {} joke")
WORDS = ("quick", "lazy", "bright", "green", "gentle", "odd", "formal", "short")


def write_votes(path: Path, n: int = 1500) -> Path:
    draw = random.Random(0)
    winners = ("winner_model_a", "winner_model_b", "winner_tie")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "model_a", "model_b", "prompt", "response_a", "response_b", *winners])
        for i in range(n):
            a, b = draw.sample(list(SKILL), 2)
            hard = draw.random() < 0.5
            prompt = draw.choice(TASKS if hard else CHAT).format(draw.choice(WORDS))
            p = 1 / (1 + 10 ** ((SKILL[b] - SKILL[a]) * (1.0 if hard else 0.02)))
            end = 2 if draw.random() < 0.1 else int(draw.random() > p)
            flags = [int(end == k) for k in range(3)]
            table.writerow([i, a, b, json.dumps([prompt + "<|endoftext|>"]), "..", "..", *flags])
    return path


# With your own data: return load_arena("train.csv", clean=clean_text)
def load_votes() -> Battles:
    with tempfile.TemporaryDirectory() as folder:
        return load_arena(write_votes(Path(folder) / "votes.csv"), clean=clean_text)


def main() -> None:
    battles = load_votes()
    print(battles.counts(share=True), ratings.elo_table(battles), sep="\n\n", end="\n\n")

    # Few votes are between any two models, so models of similar strength count as one.
    tiers = ratings.candidate_tiers(battles, 4, rated=ratings.elo_table(battles))
    strong, weak = tiers[0] + tiers[1], tiers[2]
    labels = ratings.strong_weak_battles(battles, strong, weak, ties="weak")
    print(f"strong: {strong}, weak: {weak}, {len(labels)} votes between them")

    router = ChatLLMRouter(
        candidates=[
            Candidate("weak", ScriptedChatModel("Hello!"), Price(0.1, 0.4)),
            Candidate("strong", ScriptedChatModel("Here is the code."), Price(3, 15)),
        ],
        estimator=BradleyTerry(gamma="loo", candidates=("weak", "strong")).fit(labels),
        policy=Threshold(0.7),
    )
    for question in ("Debug my gentle parser", "Name a bright colour"):
        answer = router.invoke(question)
        decision = route_of(answer)
        print(f"{question}: {decision['candidate']} ({decision['steps'][0]['reason']})")


if __name__ == "__main__":
    main()
