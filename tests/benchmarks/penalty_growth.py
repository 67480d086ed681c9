"""How `Linear`'s best penalty grows with the number of questions: the exponent that it is given.

    OMP_NUM_THREADS=1 python tests/benchmarks/penalty_growth.py --json     # ten minutes of a core

Of more than 2,048 rows, `Linear` chooses its penalties by leave-one-out on samples of 2,000 and
lets them grow with a power of the number of rows. Here leave-one-out on all rows chooses them, for
random questions and five random models of mmlu_pro, a table on which `Linear` is not tested.
The exponent is the slope of the logarithm, by least squares over all draws.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from new_model import mmlu_pro

from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import Linear
from tests.support.shared_data import shared_data_folder

N_MODELS = 5
DRAWS = {500: 12, 1_000: 12, 2_000: 8, 4_000: 4, 8_000: 2, 12_000: 2}


class ExactLinear(Linear):
    """Chooses its penalties on all rows, however many they are."""

    _FEW_ROWS = 10**9


def chosen_penalties(data: Outcomes, n: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng([seed, n])
    rows = rng.permutation(len(data))[:n]
    models = rng.permutation(len(data.candidates))[:N_MODELS]
    drawn = data.take(rows)
    some = Outcomes(
        drawn.queries, tuple(data.candidates[j] for j in models), drawn.quality[:, models]
    )
    return ExactLinear().fit(some).alpha_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    chosen = parser.parse_args()
    folder = shared_data_folder()
    if folder is None:
        sys.exit("The real tables are not at ../shared/data.")
    data = mmlu_pro(folder / "mmlu_pro")
    draws = [(n, seed) for n, n_draws in DRAWS.items() for seed in range(n_draws)]
    found = [(n, *chosen_penalties(data, n, seed)) for n, seed in tqdm(draws, file=sys.stderr)]
    sizes, *penalties = np.log10(np.array(found)).T
    print("| questions | draws | penalty of the mean | of the differences |")
    print("| --- | --- | --- | --- |")
    for n, n_draws in DRAWS.items():
        means = [10 ** column[sizes == np.log10(n)].mean() for column in penalties]
        print(f"| {n:,} | {n_draws} | {means[0]:.2f} | {means[1]:.2f} |")
    slopes = [float(np.polyfit(sizes, column, 1)[0]) for column in penalties]
    named = dict(zip(("mean", "differences"), np.round(slopes, 3).tolist(), strict=True))
    print(json.dumps(named) if chosen.json else f"Exponents: {named}")


if __name__ == "__main__":
    main()
