"""A limit on concurrent calls, for threads and tasks alike, first come first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from langchain_llm_router.live.failure_rules import BulkheadFullError

__all__ = ["Bulkhead"]


class Bulkhead:
    """Places for calls to one candidate.

    Args:
        name: Of the candidate, for the error.
        places: How many calls may be under way.
    """

    def __init__(self, name: str, places: int) -> None:
        self.name, self.places = name, places
        self._taken = 0
        self._queue: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def enter(self, timeout_s: float) -> None:
        """Take a place, waiting in this thread.

        Raises:
            BulkheadFullError: If none becomes free in time.
        """
        place = self._take()
        try:
            place.result(timeout_s)
        except FutureTimeoutError:
            self._give_up(place, timeout_s)

    async def aenter(self, timeout_s: float) -> None:
        """Take a place, waiting in this task.

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
                # It got the place at the same moment: pass it on.
                self._pass_on_if_given(place)
            raise

    def leave(self) -> None:
        """Give the place to the caller that has waited longest."""
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
            # It became free at the last moment.
            return
        msg = (
            f"{self.name!r} has {self.places} calls under way, the most it may have, and none "
            f"ended within {timeout_s:g} s: raise `max_concurrent` or add an endpoint."
        )
        raise BulkheadFullError(msg)

    def _pass_on_if_given(self, place: Future[None]) -> None:
        with self._lock:
            given = place.done() and not place.cancelled()
        if given:
            self.leave()
