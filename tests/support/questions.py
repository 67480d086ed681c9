"""Files of questions, and the arguments that name who answers them."""

import json
import random


def write_questions(path, n):
    rows = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_arithmetic(path, n, seed):
    """Sums and products in words, two to one."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        a, b, how = rng.randint(2, 99), rng.randint(2, 99), rng.choice(["plus", "plus", "times"])
        answer = a + b if how == "plus" else a * b
        rows.append({"query": f"What is {a} {how} {b}?", "reference": str(answer)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pool(url):
    return [
        option
        for name, price in (("weak", "0.1,0.2"), ("strong", "1,2"))
        for option in ("--candidate", f"{name}=openai:{name}@{url}", "--price", f"{name}={price}")
    ]
