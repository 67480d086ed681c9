"""Fixtures of several rooms."""

import gc

import pytest
from hypothesis import settings

from langchain_llm_router.history import DecisionLog
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
