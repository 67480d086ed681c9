"""What several files of this room use."""

import importlib

import pytest

from tests.support.networks import need_torch


@pytest.fixture(scope="session")
def torch():
    """The extra `torch`, loaded by the first test that needs it: it takes seconds."""
    need_torch()
    return importlib.import_module("torch")
