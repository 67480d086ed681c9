"""Logs and tables that are compressed: read where gzip did it, and named otherwise."""

import bz2
import gzip
import io
import json
import lzma
import shutil

import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, route_of
from langchain_llm_router.apps.cli.terminal import EXIT_CODES
from langchain_llm_router.history import DecisionLog
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.fakes import ScriptedModel
from tests.support.saved_routers import TABLE

pytest.importorskip("typer")
pytest.importorskip("rich")

POOL = ("--candidate", "small=openai:a@http://127.0.0.1:1/v1", "--price", "small=1,2",
        "--candidate", "large=openai:b@http://127.0.0.1:1/v1", "--price", "large=1,2")  # fmt: skip
READERS = [
    ("evaluate", "route", "--data", "run.jsonl", "--json"),
    ("evaluate", "cascade", "--data", "run.jsonl", "--json"),
    ("evaluate", "route", "--data", "table.jsonl", "--json"),
    ("calibrate", "route", "--data", "table.jsonl", "--target", "quality >= 0.5", "--out", "new"),
    ("explain", "route", "What?", "--data", "run.jsonl"),
    ("replay", "log.jsonl", "--router", "route"),
    ("replay", "log.jsonl", "--router", "always", "--json"),
    ("refit", "route", "--log", "log.jsonl", "--out", "new"),
    ("verdict", "log.jsonl", "--json"),
    (
        "collect",
        "--from-log",
        "log.jsonl",
        "--judge",
        "openai:c@http://127.0.0.1:1/v1",
        "--journal",
        "fresh",
        *POOL,
    ),
    ("collect", "q.jsonl", "--journal", "fresh", *POOL),
]
reading = pytest.mark.parametrize("command", READERS, ids=" ".join)


@pytest.fixture(scope="module")
def made(made):
    """The same folder with a log of decisions and a file of questions."""
    saved = SavedRouter.load(made / "route")
    log = DecisionLog(made / "log.jsonl")
    router = ChatLLMRouter(
        candidates=[
            Candidate("small", ScriptedModel("small says"), Price(1, 2)),
            Candidate("large", ScriptedModel("large says"), Price(10, 20)),
        ],
        policy=saved.policy,
        estimator=saved.estimator,
        log=log,
    )
    for i, query in enumerate(TABLE.queries[:40]):
        record = route_of(router.invoke(query))
        log.feedback(record["decision_id"], float(i % 3 > 0))
        log.feedback(record["decision_id"], float(i % 4 > 0), candidate="large")
    log.flush()
    rows = [{"query": query, "reference": "x"} for query in TABLE.queries[:5]]
    (made / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def compress(made, command, suffix, pack) -> list[str]:
    """The command with its file compressed; the plain one stays."""
    return [
        str(_packed(made / word, suffix, pack).relative_to(made)) if ".jsonl" in word else word
        for word in command
    ]


def _packed(path, suffix, pack):
    packed = path.with_name(f"compressed-{path.name}{suffix}")
    packed.write_bytes(pack(path.read_bytes()))
    return packed


def without_names(text: str) -> str:
    for name in ("run", "table", "log", "q"):
        text = text.replace(f"compressed-{name}.jsonl.gz", f"{name}.jsonl")
    return text


@reading
def test_what_gzip_has_compressed_is_read_as_if_it_had_not(run, made, monkeypatch, command):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    plain = run(*command)
    shutil.rmtree(made / "new", ignore_errors=True)
    packed = run(*compress(made, command, ".gz", gzip.compress))
    shutil.rmtree(made / "new", ignore_errors=True)
    assert (packed[0], *map(without_names, packed[1:])) == plain
    # A collection without a terminal is not confirmed, after it has read its file.
    assert plain[0] in EXIT_CODES.values() or "pass `--yes`" in plain[2]


@reading
@pytest.mark.parametrize(
    ("suffix", "pack", "advice"),
    [
        (".bz2", bz2.compress, "bunzip2"),
        (".xz", lzma.compress, "unxz"),
        (".zst", lambda data: b"\x28\xb5\x2f\xfd" + data[:99], "unzstd"),
    ],
    ids=["bz2", "xz", "zst"],
)
def test_what_is_compressed_otherwise_is_named_so(run, made, command, suffix, pack, advice):
    words = compress(made, command, suffix, pack)
    (name,) = (word for word in words if word.endswith(suffix))
    code, _, err = run(*words)
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line == (
        f"llm-router: {name!r} must be a plain file, but is compressed or named so: "
        f"`{advice} {name}` unpacks it."
    )


def test_a_compressed_log_that_was_cut_off_is_named_so(run, made):
    data = gzip.compress((made / "log.jsonl").read_bytes())
    (made / "cut.jsonl.gz").write_bytes(data[: len(data) // 2])
    for command in (
        ("replay", "cut.jsonl.gz", "--router", "route"),
        ("verdict", "cut.jsonl.gz"),
        ("refit", "route", "--log", "cut.jsonl.gz", "--out", "new"),
    ):
        code, _, err = run(*command)
        assert code == 1
        (line,) = err.strip().splitlines()
        assert "'cut.jsonl.gz' is compressed by gzip, and damaged or cut off" in line


@pytest.mark.parametrize(
    "command",
    [
        ("collect", "q.jsonl", *POOL, "--yes", "--journal", "packed.jsonl.gz"),
        ("collect", "q.jsonl", *POOL, "--yes", "--journal", "new.jsonl.gz"),
        ("feedback", "packed.jsonl.gz"),
        ("serve", "always", *POOL, "--port", "0", "--log", "packed.jsonl.gz"),
        ("serve", "always", *POOL, "--port", "0", "--log", "new.jsonl.gz"),
    ],
    ids=" ".join,
)
def test_nothing_is_appended_to_a_compressed_file(run, made, command):
    pytest.importorskip("uvicorn")
    packed = gzip.compress((made / "log.jsonl").read_bytes())
    (made / "packed.jsonl.gz").write_bytes(packed)
    code, _, err = run(*command)
    assert code == 1
    assert "must be a plain file, but is compressed or named so" in err.splitlines()[-1]
    assert (made / "packed.jsonl.gz").read_bytes() == packed
    assert not (made / "new.jsonl.gz").exists()
