"""Limits on concurrent calls, for threads and async tasks, first come first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from langchain_llm_router.live.failure_rules import BulkheadFullError

__all__ = ["Bulkhead"]


class Bulkhead:
    """The places for concurrent calls to one candidate.

    Args:
        name: Name of the candidate, for the error message.
        places: Maximum number of concurrent calls.
    """

    def __init__(self, name: str, places: int) -> None:
        self.name, self.places = name, places
        self._taken = 0
        self._queue: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def enter(self, timeout_s: float) -> None:
        """Take a place; wait in this thread until there is one.

        Raises:
            BulkheadFullError: If none becomes free in time.
        """
        place = self._take()
        try:
            place.result(timeout_s)
        except FutureTimeoutError:
            self._give_up(place, timeout_s)

    async def aenter(self, timeout_s: float) -> None:
        """Take a place; wait in this task until there is one.

        Raises:
            BulkheadFullError: If none becomes free in time.
        """
        place = self._take()
        if place.done():
            return
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wrap_future(place)
        except TimeoutError:
            self._give_up(place, timeout_s)
        except asyncio.CancelledError:
            if not place.cancel():
                # The task got a place at the same moment.
                self._release_if_granted(place)
            raise

    def leave(self) -> None:
        """Release a place to the caller that has waited longest."""
        with self._lock:
            while self._queue:
                place = self._queue.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._taken -= 1

    def _take(self) -> Future[None]:
        place: Future[None] = Future()
        with self._lock:
            if self._taken < self.places:
                self._taken += 1
                place.set_result(None)
            else:
                self._queue.append(place)
        return place

    def _give_up(self, place: Future[None], timeout_s: float) -> None:
        if not place.cancel():
            # A place became free at the last moment.
            return
        msg = (
            f"{self.name!r} has {self.places} calls running, as many as `max_concurrent` allows, "
            f"and none ended within {timeout_s:g} s: raise `max_concurrent` or add an endpoint."
        )
        raise BulkheadFullError(msg)

    def _release_if_granted(self, place: Future[None]) -> None:
        with self._lock:
            granted = place.done() and not place.cancelled()
        if granted:
            self.leave()
