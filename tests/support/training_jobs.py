"""Trainings of a network that is small enough to see through; importing this needs torch."""

import numpy as np
import torch

from langchain_llm_router.estimators.training_loop import (
    History,
    Training,
    TrainingJob,
    _rate_factor,
    choose_device,
    seed_torch,
    train,
)

# What a test of the loop names.
__all__ = [
    "History",
    "Interrupted",
    "Training",
    "_rate_factor",
    "choose_device",
    "job",
    "train",
    "weights",
]


class Interrupted(Exception):
    """Stands for a killed process."""


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(3, 4)
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(torch.tanh(self.body(x)))).squeeze(1)


def job(n=40, *, fail_at=None, noise=False, fresh=(), dropout=True, log=None):
    """A linear truth to learn; with `noise` the labels are noise, so that more steps overfit."""
    with seed_torch(1):
        network = Net()
        x = torch.randn(n, 3)
        y = torch.randn(n) if noise else x @ torch.tensor([1.0, -2.0, 0.5])
    calls = []

    def loss(rows):
        if network.training or not dropout:
            calls.append(rows)
        if log is not None:
            log.append((network.training, rows))
        if fail_at is not None and len(calls) == fail_at:
            raise Interrupted
        return (network(x[rows]) - y[rows]) ** 2

    groups = [str(i // 2) for i in range(n)]
    return TrainingJob(network, loss, groups, np.arange(n), "toy", fresh=fresh, dropout=dropout)


def weights(one):
    return {name: value.clone() for name, value in one.network.state_dict().items()}
