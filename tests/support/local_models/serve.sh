#!/usr/bin/env bash
# Start OpenAI-compatible servers on 127.0.0.1 from the weights that get_models.sh fetched.
# usage: serve.sh DIR [FIRST]    three servers on the ports FIRST, FIRST+1, FIRST+2 (8101)
# The pids are in DIR/*.pid. One thread each, or THREADS. Ten slots each, or SLOTS: with one, eight
# verdicts on an answer wait for one another but share its prompt's cache, which suits recording.
set -euo pipefail
D=${1:-./local-models}; FIRST=${2:-8101}; T=${THREADS:-1}; N=${SLOTS:-10}
p=$FIRST
for m in smollm2-135m qwen2.5-coder-0.5b qwen2.5-coder-1.5b; do
  setsid nohup "$D/venv/bin/llama-server-vulkan" --host 127.0.0.1 --port $p -m "$D/$m.gguf" --alias $m \
    -c $((N * 512)) -np "$N" -t "$T" --poll 0 --jinja --no-webui > "$D/$p.log" 2>&1 &
  echo $! > "$D/$p.pid"; p=$((p + 1))
done
for p in $(seq "$FIRST" $((FIRST + 2))); do
  for _ in $(seq 240); do curl -sf "127.0.0.1:$p/health" >/dev/null && continue 2; sleep 0.5; done
  echo "no server on port $p: see $D/$p.log" >&2; exit 1
done
