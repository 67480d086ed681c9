"""Files of questions, and the arguments that name who answers them."""

import json


def write_questions(path, n):
    rows = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pool(url):
    return [
        option
        for name, price in (("weak", "0.1,0.2"), ("strong", "1,2"))
        for option in ("--candidate", f"{name}=openai:{name}@{url}", "--price", f"{name}={price}")
    ]
