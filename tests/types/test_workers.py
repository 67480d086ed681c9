"""One function of many items: results in order for any number of workers; lost ones are errors."""

import math
import os
import signal
import subprocess
import sys

import pytest

from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.types.workers import map_in_processes
from tests.support.commands import environment


def test_one_worker_is_this_process_and_takes_items_one_by_one():
    taken = []

    def items():
        for i in range(3):
            taken.append(i)
            yield i

    results = map_in_processes(lambda i: (i, os.getpid()), items(), 1)
    assert taken == []
    assert next(results) == (0, os.getpid())
    assert taken == [0]
    assert list(results) == [(1, os.getpid()), (2, os.getpid())]


def test_several_workers_give_the_results_in_the_order_of_the_items():
    numbers = [float(i * i) for i in range(7)]
    assert list(map_in_processes(math.sqrt, iter(numbers), 2)) == list(map(math.sqrt, numbers))


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [0, 1, 2, 3])
def test_fewer_items_than_workers_are_enough(n_items):
    assert list(map_in_processes(abs, range(-n_items, 0), 3)) == list(range(n_items, 0, -1))


@pytest.mark.slow
def test_an_error_of_a_worker_is_raised_and_none_outlives_it():
    results = map_in_processes(math.sqrt, [4.0, -1.0, 9.0], 2)
    assert next(results) == 2.0
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)


@pytest.mark.slow
def test_a_lost_worker_is_an_error_in_words():
    with pytest.raises(LlmRouterError, match=r"lost \(exit code 3\).*fewer workers"):
        list(map_in_processes(os._exit, [3, 3], 2))


def kill_first_worker(path):
    """Kill the process that takes an item, but only the first time."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


@pytest.mark.slow
def test_an_item_of_a_killed_worker_is_done_again(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    paths[0].touch()
    assert list(map_in_processes(kill_first_worker, paths, 2)) == ["a", "b", "c"]


def kill_worker(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_an_item_that_kills_every_worker_is_an_error():
    with pytest.raises(LlmRouterError, match=r"lost \(exit code -9\).*fewer workers"):
        list(map_in_processes(kill_worker, [1, 2], 2))


ON_RAY = """
import os, sys
from pathlib import Path
from langchain_llm_router.types.workers import map_on_ray

lost = Path(sys.argv[1])

def work(i):
    if i == 3 and not lost.exists():
        lost.touch()
        os._exit(1)
    if i < 0:
        raise ValueError(f"{i} is negative")
    return i * i

assert list(map_on_ray(work, range(8))) == [i * i for i in range(8)]
try:
    list(map_on_ray(work, [1, -1]))
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_on_ray_an_item_of_a_lost_worker_is_done_again(tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    env = environment(OMP_NUM_THREADS="1", RAY_worker_niceness="0")
    env.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path / "lost")],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Ray says on standard output, too, that a worker died.
    assert done.stdout.splitlines()[-1] == "-1 is negative"
    assert (tmp_path / "lost").exists()
