"""Fixtures of several rooms."""

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture
def redis_server(tmp_path):
    """A real Redis on loopback, for one test."""
    server = RedisServer(tmp_path, sync="everysec")
    yield server
    server.kill()
