"""A function that is called again and again in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["RepeatedCall"]


class RepeatedCall:
    """Calls a function at intervals in a daemon thread, until it is stopped.

    Args:
        call: The function. It must not raise, or the calls end.
        every_s: Seconds before each call.
        name: Name of the thread.
    """

    def __init__(self, call: Callable[[], object], every_s: float, name: str) -> None:
        self._call, self._every_s, self._name = call, every_s, name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread is not None

    def start(self) -> None:
        """Start the calls, unless they have been started."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the calls, and wait up to five seconds for one that is being made."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._call()
