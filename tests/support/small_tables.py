"""Tables of two candidates."""

from langchain_llm_router.data import Outcomes

NAMES = ("weak", "strong")


def outcomes(quality, **kwargs) -> Outcomes:
    return Outcomes([f"q{i}" for i in range(len(quality))], NAMES, quality, **kwargs)
