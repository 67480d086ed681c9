"""Calls on a clock that a test turns."""

from langchain_llm_router.live import Telemetry


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def call(telemetry, clock, arm="a", ttft=0.1, itl=0.01, tokens=11, streamed=True):
    live = telemetry.began(arm, streamed=streamed)
    clock.wait(ttft)
    if streamed:
        live.got_first_token()
    clock.wait(itl * (tokens - 1))
    live.answered(tokens)


def make(**kwargs):
    clock = Clock()
    return Telemetry(clock=clock, **kwargs), clock
