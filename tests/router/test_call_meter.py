"""The calls of an agent's run are counted without a gap between their begin and their end."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_llm_router import Candidate, Price
from langchain_llm_router.router.call_meter import CallMeter
from langchain_llm_router.types.errors import BudgetExceededError


@dataclass(frozen=True)
class SlowPrice(Price):
    """A price that is reckoned only when the test allows it."""

    reckoning = threading.Event()
    go_on = threading.Event()

    def cost_usd(self, usage):
        self.reckoning.set()
        assert self.go_on.wait(5)
        return super().cost_usd(usage)


def begin(meter, run_id):
    meter.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run_id)


def test_a_call_that_begins_while_another_one_ends_is_bounded_by_what_that_costs():
    # One dollar for the one token that an answer may have.
    limits = {"max_output_tokens": 1, "max_cost_usd": 1.5}
    meter = CallMeter(Candidate("agent", price=SlowPrice(0, 1e6), **limits))
    run_id = uuid4()
    begin(meter, run_id)
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    said = ChatGeneration(message=AIMessage("x", usage_metadata=usage))
    with ThreadPoolExecutor(2) as pool:
        ending = pool.submit(meter.on_llm_end, LLMResult(generations=[[said]]), run_id=run_id)
        assert SlowPrice.reckoning.wait(5)
        beginning = pool.submit(begin, meter, uuid4())
        threading.Timer(0.05, SlowPrice.go_on.set).start()
        with pytest.raises(BudgetExceededError, match="has stopped: it may have cost 1"):
            beginning.result()
        ending.result()
    assert (meter.cost_usd, meter.n_calls) == (1.0, 1)
