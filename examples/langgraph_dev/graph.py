"""The cascade behind LangGraph's server: `langgraph dev` in this folder serves it.

    pip install "langgraph-cli[inmem]"
    LANGSMITH_TRACING=false langgraph dev --no-browser

    curl -s localhost:2024/runs/wait -H 'Content-Type: application/json' -d '{
      "assistant_id": "cascade",
      "input": {"messages": [{"role": "user", "content": "..."}]}}'

The server brings its own checkpointer. Offline it replays recorded answers of real models. With
your own keys, change the line marked below.
"""

from langchain_llm_router import Agreement, create_cascade
from langchain_llm_router.data import ZeroEval
from langchain_llm_router.policies import ConfidenceThreshold

# With real keys: pool = [Candidate(name, "provider:model") for ...], cheap, strong, and a peer.
pool = ZeroEval.load().candidates(("gpt-4o-mini", "claude-3.5-sonnet", "gemini-1.5-flash"))

graph = create_cascade(
    pool[:2], policy=ConfidenceThreshold(threshold=0.7), verifier=Agreement(peers=pool[2:])
).compile(name="cascade")
