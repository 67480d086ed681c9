"""What several files of this room use."""

import pytest

from langchain_llm_router.history import DecisionLog


@pytest.fixture
def log(tmp_path):
    return DecisionLog(tmp_path / "decisions.jsonl")
