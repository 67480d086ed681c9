"""`llm-router collect` and `llm-router fit`, against a real server on loopback."""

import json

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.collect import load_journal, parse_candidates
from langchain_llm_router.collect.graders import Judge, PairwiseJudge, grader_by_name
from langchain_llm_router.data import Outcomes
from langchain_llm_router.training import load_data
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.verification import YesNo
from tests.support.commands import CODE, last_json, run_main
from tests.support.fakes import SamplingModel, make_outcomes
from tests.support.forks import run_forked
from tests.support.local_server import LocalServer
from tests.support.questions import pool, write_questions

pytest.importorskip("typer")
pytest.importorskip("rich")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a command in an empty folder; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_main(arguments, monkeypatch, capsys)


@pytest.fixture
def spawn(tmp_path):
    """The same in a process of its own, whose end closes the clients' connections."""

    def command(*arguments: str) -> tuple[int, str, str]:
        done = run_forked(CODE, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    return command


UNREACHABLE = "a=openai:b@http://127.0.0.1:1/v1"


@pytest.mark.slow
def test_from_questions_to_a_living_router(run, spawn, tmp_path):
    pytest.importorskip("matplotlib")
    write_questions(tmp_path / "q.jsonl", 60)
    with LocalServer() as server:
        told = ("--yes", "--samples", "2", "--json")
        code, out, err = spawn("collect", "q.jsonl", *told, *pool(server.url))
    assert code == 0, err
    *lines, figures = out.splitlines()
    assert lines == [
        "weak: quality 0.500",
        "strong: quality 1.000",
        "verdicts readable: 120 of 120",
    ]
    figures = json.loads(figures)
    assert (figures["n_rows"], figures["left_out"]) == (60, {})
    assert figures["candidates"]["strong"]["quality"] == 1.0
    assert "In all 180 calls" in err
    spent, known = figures["spent_usd"], figures["spent_known_usd"]
    expected = format_usd(figures["expected_usd"])
    assert spent == known > 0
    assert err.splitlines()[-1] == f"Spent: {format_usd(spent)}. Expected: {expected}."
    assert len(load_journal(tmp_path / "run.jsonl").ids) == 60
    code, out, err = run("fit", "--data", "run.jsonl", "--out", "router", "--json")
    # Sixty questions are too few for a verdict.
    assert code == 4, err
    assert last_json(out)["n_rows"] == 60
    assert "cannot be said yet" in out
    assert (tmp_path / "router" / "report.md").exists()
    models = {name: SamplingModel("16", "Yes", "Yes", model=name) for name in ("weak", "strong")}
    router = ChatLLMRouter.load(
        "router",
        candidates=[Candidate(name, model) for name, model in models.items()],
        verifier={"self": YesNo(2)},
    )
    assert router.invoke("What is 8 + 8?").content == "16"


def test_a_wrong_key_ends_in_one_line(spawn, tmp_path):
    write_questions(tmp_path / "q.jsonl", 3)
    with LocalServer(key="right") as server:
        code, _, err = spawn("collect", "q.jsonl", "--yes", *pool(server.url))
    spent, last = err.strip().splitlines()[-2:]
    assert code == 1
    assert spent.startswith("Spent: $0.00. Expected: $0.0")
    assert last.startswith("llm-router: Candidate '")
    assert "Incorrect API key provided" in last


def test_what_was_spent_is_said_without_a_terminal_and_in_json(spawn, tmp_path):
    write_questions(tmp_path / "q.jsonl", 3)
    with LocalServer() as server:
        told = ("--yes", "--samples", "0", "--json")
        code, out, err = spawn("collect", "q.jsonl", *told, *pool(server.url))
        assert code == 0, err
        figures = last_json(out)
        again = last_json(spawn("collect", "q.jsonl", *told, *pool(server.url))[1])
    assert figures["spent_usd"] == figures["spent_known_usd"] > 0
    spent, expected = (format_usd(figures[name]) for name in ("spent_usd", "expected_usd"))
    assert err.splitlines()[-1] == f"Spent: {spent}. Expected: {expected}."
    assert [again[name] for name in ("spent_usd", "expected_usd")] == [0, 0], "nothing was left"


@pytest.mark.slow
def test_rate_limits_are_waited_out_over_real_http(spawn, tmp_path):
    write_questions(tmp_path / "q.jsonl", 4)
    with LocalServer(rate_limited=3) as server:
        code, out, err = spawn("collect", "q.jsonl", "--yes", "--samples", "0", *pool(server.url))
    assert code == 0, err
    assert "strong: quality 1.000" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--candidate", "nonsense"],
            "[name=]provider:model[?parameter=value&...][@base-url], got 'nonsense'",
        ),
        (["--candidate", UNREACHABLE, "--price", "b=1,2"], "must be for one of the candidates"),
        (
            ["--candidate", UNREACHABLE, "--price", "a=x"],
            "name=input,output",
        ),
        (["--grader", "judge"], "needs a model, got None"),
        (["--grader", "coin"], "Unknown grader 'coin'"),
    ],
)
def test_mistakes_end_in_one_line(run, tmp_path, arguments, words):
    write_questions(tmp_path / "q.jsonl", 3)
    code, _, err = run("collect", "q.jsonl", *arguments)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_fit_meets_a_target_and_says_so(run, tmp_path):
    pytest.importorskip("matplotlib")
    make_outcomes(200, ("small", "large")).save(tmp_path / "table.jsonl")
    target = "quality >= 0.9 * best"
    code, out, err = run("fit", "--data", "table.jsonl", "--target", target, "--json")
    told = last_json(out)
    assert code == {"kept": 0, "not_kept": 3, "unknown": 4}[told["verdict"]], err
    assert told["target"] == target
    assert told["n_rows"] == 200
    assert out.startswith(told["sentence"])
    assert told["sentence"] in (tmp_path / "router" / "report.md").read_text()
    code, _, err = run("fit", "--data", "table.jsonl", "--target", target)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "overwrite it with `--force`" in err
    code, _, err = run("fit", "--data", "table.jsonl", "--target", "quality > 0.9", "--force")
    assert code == 1
    assert err.startswith("llm-router: A target must have a form")
    assert len(err.splitlines()) == 1


def test_fit_reads_tables_as_well_as_journals(run, tmp_path):
    make_outcomes(n=20).save(tmp_path / "table.jsonl")
    assert isinstance(load_data(tmp_path / "table.jsonl"), Outcomes)
    code, _, err = run("fit")
    assert code == 1
    assert "`--data` is missing" in err
    assert not (tmp_path / "router").exists()


def test_log_probabilities_are_asked_for_where_the_model_has_them():
    url = "http://127.0.0.1:1/v1"
    (candidate,) = parse_candidates([f"openai:tiny@{url}"], ["tiny=1,2"], logprobs=True)
    assert candidate.name == "tiny"
    assert candidate.model.logprobs is True
    assert candidate.price.output_usd_per_mtok == 2.0
    assert isinstance(grader_by_name("judge", f"openai:j@{url}"), Judge)
    assert isinstance(grader_by_name("pairwise", f"openai:j@{url}"), PairwiseJudge)
