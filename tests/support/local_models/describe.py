"""Write the figures of the shipped table into the README of the data sets.

usage: python -m tests.support.local_models.describe

They stand between two marks; a test compares them with the table.
"""

import numpy as np

from langchain_llm_router.data import LocalModels
from langchain_llm_router.evaluation import auc
from tests.support.paths import PACKAGE

README = PACKAGE / "data" / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def figures(data: LocalModels) -> str:
    """Both tables in Markdown: who is right how often, and what the scores are worth."""
    outcomes = data.outcomes
    sums = np.array([group == "sums" for group in outcomes.groups])
    parts = {
        f"{len(outcomes):,} questions": np.full(len(outcomes), True),
        f"{int((~sums).sum()):,} multiple choice": ~sums,
        f"{int(sums.sum()):,} sums": sums,
    }
    lines = [
        " | ".join(["| model: right of", *parts, "notional USD per million tokens |"]),
        "| --- |" + " --- |" * (len(parts) + 1),
    ]
    for j, name in enumerate(outcomes.candidates):
        shares = [f"{outcomes.quality[rows, j].mean():.1%}" for rows in parts.values()]
        rate = f"{data.prices[name].input_usd_per_mtok:.4f}"
        lines.append(f"| {' | '.join([name, *shares, rate])} |")
    lines += ["", f"| AUROC | {' | '.join(f'`{name}`' for name in data.evaluations)} |"]
    lines.append("| --- |" + " --- |" * len(data.evaluations))
    for j, name in enumerate(outcomes.candidates):
        areas = []
        for it in data.evaluations.values():
            known = ~np.isnan(it.confidence[:, j])
            area = auc(it.confidence[known, j], outcomes.quality[known, j] >= 0.5)
            areas.append(f"{area:.2f}")
        lines.append(f"| {' | '.join([name, *areas])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    said = f"{BEGIN}\n{figures(LocalModels.load())}\n{END}"
    README.write_text(before + said + after, encoding="utf-8")


if __name__ == "__main__":
    main()
