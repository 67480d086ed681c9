"""RouteLLM's data: battles between many models become battles of a strong and a weak group."""

import csv
import itertools
import json

import numpy as np
import pytest

from langchain_llm_router import Battles, Candidate, Price
from langchain_llm_router.collect import ChoiceMatch, collect
from langchain_llm_router.data import clean_text, load_arena, load_rankings
from langchain_llm_router.data.benchmarks import load_mmlu
from langchain_llm_router.estimators import BradleyTerry
from langchain_llm_router.estimators.ratings import (
    candidate_tiers,
    elo,
    elo_table,
    strong_weak_battles,
    tiers,
)
from langchain_llm_router.testing import ScriptedChatModel
from tests.support.article_rows import row
from tests.support.fakes import TableEmbeddings


def articles_elo(battles: list[tuple[str, str, float]]) -> dict[str, float]:
    """Rate models as the article's `update_elo` does: K = 32, from 1000, in order."""
    rating: dict[str, float] = {}
    for a, b, score in battles:
        winner, loser = (a, b) if score > 0 else (b, a)
        before = rating.get(winner, 1000), rating.get(loser, 1000)
        expected = 1 / (1 + 10 ** ((before[1] - before[0]) / 400))
        won = 0.5 if score == 0.5 else 1.0
        rating[winner] = before[0] + 32 * (won - expected)
        rating[loser] = before[1] + 32 * ((1 - won) - (1 - expected))
    return rating


@row(38, "Elo ratings: K = 32, from 1000, a tie is half a win, in the order of the battles")
def test_seven_battles_with_ties_give_the_articles_ratings():
    battles = [
        ("gpt-4", "vicuna", 1.0), ("claude", "gpt-4", 0.0), ("vicuna", "claude", 0.5),
        ("claude", "vicuna", 1.0), ("vicuna", "gpt-4", 1.0), ("gpt-4", "claude", 0.5),
        ("claude", "vicuna", 0.0),
    ]  # fmt: skip
    names = ["gpt-4", "vicuna", "claude"]
    a, b, score = zip(*battles, strict=True)
    rated = elo([names.index(n) for n in a], [names.index(n) for n in b], score, n_candidates=3)
    expected = articles_elo(battles)
    assert rated.tolist() == pytest.approx([expected[name] for name in names], abs=1e-9)
    assert 980 < rated.min() < 1000 < rated.max() < 1030


def arena(n: int = 4000) -> Battles:
    """Battles of twelve models, the first the strongest; one in six is a tie."""
    random = np.random.default_rng(0)
    strength = np.linspace(3, -3, 12)
    a, b = np.array([random.choice(12, 2, replace=False) for _ in range(n)]).T
    won = random.random(n) < 1 / (1 + np.exp(strength[b] - strength[a]))
    score = np.where(random.random(n) < 1 / 6, 0.5, won)
    queries = [f"q{i % 50}" for i in range(n)]
    return Battles(queries, [f"m{i:02d}" for i in a], [f"m{i:02d}" for i in b], score)


@row(40, "models are grouped by rating into ten tiers")
def test_tiers_are_those_of_a_search_through_all_groupings_and_a_ranking_has_ten():
    random = np.random.default_rng(0)
    for _ in range(60):
        ratings = random.normal(1000, 100, 7).round(-1)
        n_tiers = int(random.integers(2, 5))

        def loss(groups, ratings=ratings):
            return sum(ratings[np.array(group)].var() for group in groups)

        order = np.argsort(-ratings, kind="stable")
        best = min(
            loss(np.split(order, cuts)) for cuts in itertools.combinations(range(1, 7), n_tiers - 1)
        )
        found = tiers(ratings, n_tiers)
        assert loss([np.flatnonzero(found == i) for i in range(n_tiers)]) == pytest.approx(best)
    battles = arena()
    grouped = candidate_tiers(battles, 10)
    assert [len(group) for group in grouped if len(group) == 0] == []
    assert sorted(itertools.chain(*grouped)) == sorted(battles.candidates)
    assert "m00" in grouped[0]
    assert "m11" in grouped[-1]
    embeddings = TableEmbeddings({f"q{i}": [1.0, i / 50] for i in range(50)})
    fitted = BradleyTerry(embeddings, n_tiers=10).fit(battles)
    tier_of = dict(zip(fitted.candidates_, fitted.tier_.tolist(), strict=True))
    assert {name: i for i, group in enumerate(grouped) for name in group} == tier_of


@row(41, "strong models are those of tiers 0 and 1, weak ones of tiers 2 and 3; battles between")
def test_battles_between_the_groups_are_those_that_a_filter_by_hand_finds():
    battles = arena()
    grouped = candidate_tiers(battles, 10)
    strong, weak = {*grouped[0], *grouped[1]}, {*grouped[2], *grouped[3]}
    rows = zip(
        battles.queries, battles.candidate_a, battles.candidate_b, battles.score_a, strict=True
    )
    by_hand = [
        (query, score if a in strong else 1 - score)
        for query, a, b, score in rows
        if (a in strong and b in weak) or (a in weak and b in strong)
    ]
    between = strong_weak_battles(battles, sorted(strong), sorted(weak))
    assert len(between) > 100
    assert list(zip(between.queries, between.score_a.tolist(), strict=True)) == by_hand
    assert set(between.candidate_a) == {"strong"}
    assert set(between.candidate_b) == {"weak"}


@row(56, "MMLU: whether a model was right is found automatically")
def test_letters_are_graded_without_a_judge_and_routellms_table_is_read(tmp_path):
    replies = {
        "B": 1.0, "(B)": 1.0, "The answer is B.": 1.0, "**B**": 1.0, "C": 0.0, "Who knows": None,
    }  # fmt: skip
    model = ScriptedChatModel(*replies)
    collected = collect(
        [{"query": f"{i}. Which? A, B, C or D?", "reference": "B"} for i in range(len(replies))],
        [Candidate("small", model, Price(1, 2))],
        journal=tmp_path / "run.jsonl",
        grader=ChoiceMatch(),
    )
    # A question whose answer chooses no letter has no grade, and is left out of the table.
    graded = [quality for quality in replies.values() if quality is not None]
    assert collected.outcomes.quality[:, 0].tolist() == graded
    kept = {"prompt": "q1", "subject": "s", "weak_correct": 0, "strong_correct": 1}
    known = {"prompt": "q2", "subject": "s", "weak_correct": 1, "strong_correct": 1}
    lines = [json.dumps({**kept, "contaminated": 0}), json.dumps({**known, "contaminated": 1})]
    (tmp_path / "mmlu.jsonl").write_text("\n".join(lines))
    table = load_mmlu(tmp_path / "mmlu.jsonl")
    assert table.quality.tolist() == [[0.0, 1.0]]


VOTES = [
    ("gpt-4", "vicuna", [1, 0, 0]), ("claude", "gpt-4", [0, 1, 0]), ("vicuna", "claude", [0, 0, 1]),
    ("claude", "vicuna", [1, 0, 0]), ("vicuna", "gpt-4", [1, 0, 0]), ("gpt-4", "claude", [0, 0, 1]),
    ("claude", "vicuna", [0, 1, 0]),
]  # fmt: skip


@pytest.fixture
def votes(tmp_path):
    """A file with the columns of `lmsys-arena-human-preference-55k/train.csv`."""
    path = tmp_path / "train.csv"
    ends = ["winner_model_a", "winner_model_b", "winner_tie"]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "model_a", "model_b", "prompt", "response_a", "response_b", *ends])
        for i, (a, b, flags) in enumerate(VOTES):
            prompt = json.dumps([f'question "{i}",\nin two lines<|endoftext|>'])
            table.writerow([i, a, b, prompt, '["one"]', '["two"]', *flags])
    return path


@row(36, "Chatbot Arena's 55k votes: model_a, model_b, winner_model_a, winner_model_b, winner_tie")
def test_the_file_of_the_votes_is_read_and_kept(votes, tmp_path):
    battles = load_arena(votes)
    sides = list(zip(battles.candidate_a, battles.candidate_b, strict=True))
    assert sides == [(a, b) for a, b, _ in VOTES]
    assert battles.score_a.tolist() == [1.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    again = Battles.load(battles.save(tmp_path / "battles.jsonl"))
    assert again.queries == battles.queries
    assert again.score_a.tolist() == battles.score_a.tolist()


@row(37, "label sparsity: how often each model appears as model a")
def test_the_share_of_each_model_is_that_of_pandas(votes):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    expected = pandas.read_csv(votes)["model_a"].value_counts(normalize=True)
    counted = load_arena(votes).counts("a", share=True)
    assert dict(counted) == pytest.approx(expected.to_dict())
    assert list(counted.values()) == sorted(counted.values(), reverse=True)
    assert "claude" in repr(counted).splitlines()[1]
    assert "0.4286" in repr(counted).splitlines()[1]


@row(39, "a table of the Elo ratings, sorted")
def test_ratings_have_names_and_stand_from_the_best_to_the_worst(votes):
    table = elo_table(load_arena(votes))
    expected = articles_elo([(a, b, flags[0] + flags[2] / 2) for a, b, flags in VOTES])
    ranked = sorted(expected, key=lambda name: -expected[name])
    assert list(table) == ranked
    assert [table[name] for name in ranked] == pytest.approx([expected[name] for name in ranked])
    assert [line.split()[0] for line in repr(table).splitlines()[1:]] == ranked


@row(
    42,
    "labels: 1 where the strong model won, 0 where the weak one did, and 0 for a tie",
    kind="option",
    why='`strong_weak_battles(..., ties="weak")`; by default a tie is half a win for each side',
)
def test_a_tie_is_a_win_of_the_weak_model_where_that_is_asked_for(votes):
    battles = load_arena(votes)
    groups = (["gpt-4"], ["vicuna", "claude"])
    between = strong_weak_battles(battles, *groups, ties="weak")
    assert between.score_a.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert strong_weak_battles(battles, *groups).score_a.tolist() == [1.0, 1.0, 0.0, 0.5]


@row(43, "all prompts embedded by any LangChain embeddings, cleaned of <|endoftext|>")
def test_prompts_are_cleaned_before_they_are_embedded(votes):
    battles = load_arena(votes, clean=clean_text)
    texts = [f'question "{i}",\nin two lines' for i in range(len(VOTES))]
    assert list(battles.queries) == texts
    embeddings = TableEmbeddings({text: [1.0, float(i)] for i, text in enumerate(texts)})
    fitted = BradleyTerry(embeddings).fit(battles)
    assert fitted.predict(texts).shape == (7, 3)
    with pytest.raises(KeyError, match="endoftext"):
        BradleyTerry(embeddings).fit(load_arena(votes))


@row(
    49,
    "a bias against the label that is more frequent (in the article: no appreciable effect)",
    kind="option",
    why='`BradleyTerry(win_weights={"strong": 1 / share})`; by default none',
)
def test_wins_of_the_strong_model_weigh_as_by_the_articles_bias():
    labels = [1.0] * 8 + [0.0] * 2
    battles = Battles([f"q{i}" for i in range(10)], ["strong"] * 10, ["weak"] * 10, labels)
    embeddings = TableEmbeddings({f"q{i}": [1.0, i / 10] for i in range(10)})
    bias = 1 / np.mean(labels)
    p = {
        weights: BradleyTerry(
            embeddings, candidates=("weak", "strong"), gamma=1.0, ridge=1e-9,
            win_weights=None if weights is None else {"strong": weights},
        ).fit(battles).predict(["q0"])[0, 1]
        for weights in (None, bias)
    }  # fmt: skip
    assert p[None] == pytest.approx(0.8, abs=1e-6)
    assert p[bias] == pytest.approx(8 * bias / (8 * bias + 2), abs=1e-6)


@row(57, "Nectar: GPT-4's rankings of several models' answers")
def test_a_ranking_of_answers_becomes_a_battle_of_every_pair(tmp_path):
    ranked = {"gpt-4": 1, "claude": 2, "vicuna": 2, "llama": 4}
    answers = [{"model": name, "rank": rank, "answer": "..."} for name, rank in ranked.items()]
    line = {"prompt": "\n\nHuman: Who wrote The Trial?\n\nAssistant: ", "answers": answers}
    path = tmp_path / "nectar.jsonl"
    path.write_text(json.dumps(line))
    battles = load_rankings(path)
    assert set(battles.queries) == {"Who wrote The Trial?"}
    pairs = zip(battles.candidate_a, battles.candidate_b, battles.score_a.tolist(), strict=True)
    assert {(a, b): score for a, b, score in pairs} == {
        ("gpt-4", "claude"): 1.0, ("gpt-4", "vicuna"): 1.0, ("gpt-4", "llama"): 1.0,
        ("claude", "vicuna"): 0.5, ("claude", "llama"): 1.0, ("vicuna", "llama"): 1.0,
    }  # fmt: skip
    assert next(iter(elo_table(battles))) == "gpt-4"
