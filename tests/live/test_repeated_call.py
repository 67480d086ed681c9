"""A function is called at intervals by one thread, until it is stopped."""

import multiprocessing
import threading
import time

import pytest

from langchain_llm_router.live import PriceFeed
from langchain_llm_router.live.repeated_call import RepeatedCall
from langchain_llm_router.types import Price


def threads(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def wait_until(holds, timeout_s=5.0):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not holds():
        time.sleep(0.005)
    assert holds()


def test_it_is_called_until_it_is_stopped():
    calls = []
    repeated = RepeatedCall(lambda: calls.append(1), 0.005, "repeated")
    assert not repeated.is_running
    repeated.start()
    repeated.start()
    assert len(threads("repeated")) == 1
    wait_until(lambda: len(calls) > 2)
    repeated.stop()
    made = len(calls)
    time.sleep(0.03)
    assert (len(calls), repeated.is_running, threads("repeated")) == (made, False, [])


def test_a_call_that_hangs_while_it_is_stopped_and_started_is_the_last_of_its_thread(monkeypatch):
    may_end, hanging, calls = threading.Event(), threading.Event(), []

    def hang():
        calls.append(threading.current_thread())
        hanging.set()
        may_end.wait(5)

    repeated = RepeatedCall(hang, 0.005, "hanging")
    repeated.start()
    assert hanging.wait(5)
    (first,) = threads("hanging")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", lambda self, timeout=None: None)
        repeated.stop()
    repeated.start()
    may_end.set()
    wait_until(lambda: not first.is_alive())
    wait_until(lambda: calls[-1] is not first)
    assert len(threads("hanging")) == 1
    repeated.stop()


def _read_in_child(feed, told):
    first = feed.look("small").price.input_usd_per_mtok
    until = time.monotonic() + 5
    while time.monotonic() < until and feed.look("small").price.input_usd_per_mtok == first:
        time.sleep(0.005)
    told.put(feed.look("small").price.input_usd_per_mtok > first)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="only where processes fork"
)
def test_a_forked_worker_goes_on_reading_prices():
    n_read = iter(range(1, 10_000))
    context = multiprocessing.get_context("fork")
    with PriceFeed(lambda: {"small": Price(next(n_read), 1)}, every_s=0.01) as feed:
        told = context.SimpleQueue()
        worker = context.Process(target=_read_in_child, args=(feed, told))
        worker.start()
        worker.join(10)
        assert told.get()
