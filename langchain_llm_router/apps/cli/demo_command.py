"""`llm-router demo`: runs the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

__all__ = ["demo"]


def demo(
    *,
    out: Annotated[Path, "Folder for the picture."] = Path("llm-router-demo"),
    seed: Annotated[int, "Seed of the random split."] = 0,
    json: Annotated[bool, "Print the figures as one JSON object on the last line."] = False,
    local: Annotated[bool, "Run a live cascade with a small local model instead."] = False,
    agents: Annotated[bool, "Replay coding agents of 2026 instead: cheap, check, strong."] = False,
) -> None:
    """Route 1,420 held-out questions and show the savings (needs no key and no network).

    Example: llm-router demo --out pictures

    Example: llm-router demo --agents
    """
    if agents and local:
        msg = "`--agents` and `--local` exclude each other: choose one."
        raise ValueError(msg)
    if agents:
        from langchain_llm_router.apps.demo.agents_demo import (  # noqa: PLC0415 - only it
            show_agents,
        )

        show_agents(out, seed=seed, as_json=json)
        return
    if local:
        from langchain_llm_router.apps.demo.local_demo import (  # noqa: PLC0415 - only it
            show_local,
        )

        show_local()
        return
    from langchain_llm_router.apps.demo import demo_report  # noqa: PLC0415 - imports what only it needs

    demo_report.show(out, seed=seed, as_json=json)
