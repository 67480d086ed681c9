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
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._thread is not None

    @property
    def is_lost(self) -> bool:
        """Whether its thread ended unasked, as every thread does in the child of a fork."""
        thread = self._thread
        return thread is not None and not thread.is_alive()

    def start(self) -> None:
        """Start the calls, unless they are being made."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            # An event of its own: a call of an earlier thread may still hang, and must be the last.
            self._stopped = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(self._stopped,), name=self._name, daemon=True
            )
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        """Stop the calls, and wait up to five seconds for one that is being made."""
        with self._lock:
            self._stopped.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout=5)

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._every_s):
            self._call()
