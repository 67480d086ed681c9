"""Fixtures of several rooms."""

import gc

import pytest
from hypothesis import settings

from langchain_llm_router.history import DecisionLog
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer

# A time limit per example fails on a machine that is busy with something else.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def log(tmp_path):
    """A decision log that holds nothing yet."""
    return DecisionLog(tmp_path / "decisions.jsonl")


@pytest.fixture
def redis_server(tmp_path):
    """A real Redis on loopback, for one test."""
    server = RedisServer(tmp_path, sync="everysec")
    yield server
    server.kill()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import without the garbage collector, which would walk through all modules again and again.

    What is there when the tests begin stays until they end, so no later collection looks at it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# Files that the first two workers begin with, a row for each: what takes longest, so that none is
# left alone with it at the end, and together what shares something that takes long to import.
FIRST = (
    # PyTorch.
    ("test_contracts", "estimators/test_encoder", "estimators/test_contrastive",
     "estimators/test_causal_lm", "estimators/test_training_loop", "article/test_routellm",
     "article/test_unify", "test_docs", "test_public_api", "types/test_lazy",
     "types/test_linear_patterns", "test_architecture", "estimators/test_many_rows"),
    # What processes of commands are forked from.
    ("test_lint", "apps/test_cli", "apps/test_serve_command", "apps/test_start_command",
     "apps/test_collect_command", "apps/test_collect_from_log", "collect/test_bad_input",
     "router/test_saved_verifier", "router/test_agents_killed", "router/test_graph_killed",
     "training/test_fit", "test_readme", "test_examples", "apps/test_demo"),
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Put the files above first: the first row at the start, the second where a worker's begin.

    `--dist=worksteal` gives each worker as many, in order; who has nothing left takes from the end
    of another's.
    """
    rows = [[ROOT / "tests" / f"{name}.py" for name in row] for row in FIRST]
    assert all(path.exists() for row in rows for path in row)
    of_file = {path: [] for row in rows for path in row}
    rest = []
    for item in items:
        of_file.get(item.path, rest).append(item)
    first, second = ([item for path in row for item in of_file[path]] for row in rows)
    n_workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    middle = max(0, len(items) // max(2, n_workers) - len(first))
    items[:] = [*first, *rest[:middle], *second, *rest[middle:]]
