"""The training loop of the estimators that are neural networks (extra `torch`).

AdamW with linear warm-up and decay, gradient clipping, early stopping on held-out queries, and
checkpoints from which an interrupted run resumes with the same result. Every step seeds its own
dropout, so the step number is the only random state in a checkpoint. Pickle is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_llm_router.data import split_indices
from langchain_llm_router.data.artifacts import Artifact, data_hash, read_artifact, write_artifact
from langchain_llm_router.types.arguments import CheckedArguments
from langchain_llm_router.types.arrays import Arrays, Floats, Indices
from langchain_llm_router.types.errors import ArtifactError, import_extra

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = import_extra("torch", "torch")

__all__ = [
    "History",
    "Training",
    "TrainingJob",
    "autocast",
    "choose_device",
    "seed_torch",
    "train",
]

# Settings that do not change the result; they are not part of an artifact.
_RUNTIME = ("device", "progress", "checkpoint_folder", "checkpoint_every")
_WEIGHTS, _BEST, _OPTIMIZER = "weights.safetensors", "best.safetensors", "optimizer.safetensors"
_BUCKET_BATCHES = 16


@dataclass(frozen=True)
class Training(CheckedArguments):
    """Settings for the training of a network.

    Args:
        epochs: Number of passes over the training rows.
        max_steps: Maximum number of optimizer steps. If None, only `epochs` limits them.
        batch_size: Rows per step.
        learning_rate: Peak learning rate of the pretrained weights.
        head_learning_rate: Peak learning rate of the new weights. If None, `learning_rate`.
        weight_decay: Weight decay of AdamW.
        warmup_share: Share of the steps in which the learning rate rises linearly; afterwards it
            falls linearly to 0.
        clip_norm: Maximum norm of the gradient.
        validation_share: Share of the queries held out for early stopping; 0 disables it.
        evaluate_every: Steps between evaluations of the held-out loss. If None, one epoch.
        patience: Number of evaluations without a lower loss after which training stops. The
            weights with the lowest loss are kept.
        seed: Seed of the split, the order of rows, the new weights and dropout.
        device: Name of the device, e.g. `"cuda"`. If None, a GPU if there is one. bf16 is used
            only on a GPU.
        progress: Whether to show a progress bar on stderr.
        checkpoint_folder: Folder of checkpoints, from which the same fit resumes. If None, no
            checkpoints are written.
        checkpoint_every: Steps between checkpoints. If None, `evaluate_every`.
    """

    epochs: int = 3
    max_steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 1e-5
    head_learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    clip_norm: float = 1.0
    validation_share: float = 0.1
    evaluate_every: int | None = None
    patience: int = 3
    seed: int = 0
    device: str | None = None
    progress: bool = False
    checkpoint_folder: str | Path | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "max_steps", "batch_size", "patience"):
            self._check(name, lambda value: value >= 1, ">= 1")
        for name in ("evaluate_every", "checkpoint_every"):
            self._check(name, lambda value: value >= 1, ">= 1 or None")
        for name in ("learning_rate", "head_learning_rate", "clip_norm"):
            self._check(name, lambda value: 0 < value < math.inf, "> 0")
        self._check("weight_decay", lambda value: 0 <= value < math.inf, ">= 0")
        for name in ("warmup_share", "validation_share"):
            self._check(name, lambda value: 0 <= value < 1, "in [0, 1)")
        self._check("seed", lambda value: 0 <= value < 2**31, "in [0, 2**31)")

    def _check(self, name: str, is_valid: Callable[[Any], bool], allowed: str) -> None:
        value = getattr(self, name)
        if value is not None and not is_valid(value):
            msg = f"`{name}` must be {allowed}, got {value!r}."
            raise ValueError(msg)

    def settings(self) -> dict[str, Any]:
        """Return the settings that change the result, to save in an artifact."""
        return {name: value for name, value in asdict(self).items() if name not in _RUNTIME}


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A network to train, its training rows and its loss.

    Args:
        network: The network, whose parameters that require gradients are trained.
        loss: Function from row indices to the loss of each row, a tensor of shape (len(rows),).
        groups: Label of each row; rows with the same label are on one side of the split.
        lengths: Length of each row, e.g. in tokens; a batch has rows of similar length.
        fingerprint: Identifier of this job, because it must not resume another job's checkpoint.
        fresh: Prefixes of the names of the parameters that are not pretrained.
        dropout: Whether to use dropout; False trains in evaluation mode.
    """

    network: nn.Module
    loss: Callable[[Indices], torch.Tensor]
    groups: Sequence[str]
    lengths: Indices
    fingerprint: str
    fresh: tuple[str, ...] = ()
    dropout: bool = True


@dataclass(frozen=True, eq=False)
class History:
    """The steps and held-out losses of a training run.

    Attributes:
        steps: Number of optimizer steps, those before a resumed checkpoint included.
        best_step: Step whose weights were kept.
        validation_step: Step of each held-out evaluation, of shape (n_evaluations,).
        validation_loss: Mean loss of the held-out rows at each evaluation, same shape.
    """

    steps: int
    best_step: int
    validation_step: Indices
    validation_loss: Floats

    def to_arrays(self) -> Arrays:
        """Return the history as arrays, to save in an artifact."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> History:
        """Build the history from the output of `to_arrays`."""
        return cls(
            int(arrays["steps"]),
            int(arrays["best_step"]),
            arrays["validation_step"],
            arrays["validation_loss"],
        )


def choose_device(name: str | None) -> torch.device:
    """Return the named device. If the name is None, a GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def seed_torch(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and restore its global state afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def autocast(device: torch.device) -> Any:
    """Return a context that computes in bf16 on a GPU, and in full precision elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def train(job: TrainingJob, training: Training) -> History:
    """Train the job's network in place, and leave it in evaluation mode with the best weights.

    Raises:
        ArtifactError: If a checkpoint of this job is corrupted.
        FloatingPointError: If the training diverges.
    """
    return _TrainingRun(job, training).finish()


class _TrainingRun:
    def __init__(self, job: TrainingJob, training: Training) -> None:
        self.job, self.training = job, training
        self.device = next(job.network.parameters()).device
        self.trained = {n: p for n, p in job.network.named_parameters() if p.requires_grad}
        share = training.validation_share
        self.rows, self.held_out = split_indices(
            len(job.groups), [1 - share, share], seed=training.seed, groups=job.groups
        )
        if len(self.rows) == 0:
            self.rows, self.held_out = self.held_out, self.rows
        self.batches_per_epoch = -(-len(self.rows) // training.batch_size)
        planned = training.epochs * self.batches_per_epoch
        self.n_steps = min(planned, training.max_steps or planned)
        self.optimizer = torch.optim.AdamW(self._parameter_groups())
        self.step, self.best_step, self.n_without_gain = 0, 0, 0
        self.losses: list[tuple[int, float]] = []
        self.best: dict[str, torch.Tensor] | None = None

    def _parameter_groups(self) -> list[dict[str, Any]]:
        training, fresh = self.training, self.job.fresh
        new = [p for n, p in self.trained.items() if n.startswith(fresh)] if fresh else []
        old = [p for n, p in self.trained.items() if not (fresh and n.startswith(fresh))]
        head_rate = training.head_learning_rate or training.learning_rate
        decay = training.weight_decay
        groups = [(old, training.learning_rate), (new, head_rate)]
        return [
            {"params": params, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for params, rate in groups
            if len(params) > 0
        ]

    def finish(self) -> History:
        tqdm = import_extra("tqdm", "torch").tqdm
        self._resume()
        self.job.network.train(self.job.dropout)
        with (
            seed_torch(self.training.seed),
            tqdm(
                total=self.n_steps,
                initial=self.step,
                disable=not self.training.progress,
                desc="training",
                unit="step",
            ) as bar,
        ):
            for rows in self._batches():
                bar.set_postfix(loss=f"{self._take_step(rows):.4f}", refresh=False)
                bar.update()
                if self._evaluate_when_due():
                    break
        if self.best is not None:
            self._restore(self.best)
        self.job.network.eval()
        steps, losses = [s for s, _ in self.losses], [loss for _, loss in self.losses]
        best_step = self.step if self.best is None else self.best_step
        return History(self.step, best_step, np.array(steps, np.intp), np.array(losses, float))

    def _batches(self) -> Iterator[Indices]:
        while self.step < self.n_steps and self.n_without_gain < self.training.patience:
            epoch, done = divmod(self.step, self.batches_per_epoch)
            yield from islice(self._epoch(epoch), done, done + self.n_steps - self.step)

    def _epoch(self, epoch: int) -> Iterator[Indices]:
        """Yield shuffled batches; rows of a batch have similar lengths to limit padding."""
        rng = np.random.default_rng([self.training.seed, epoch])
        order, size = rng.permutation(self.rows), self.training.batch_size
        batches = []
        for start in range(0, len(order), size * _BUCKET_BATCHES):
            bucket = order[start : start + size * _BUCKET_BATCHES]
            bucket = bucket[np.argsort(self.job.lengths[bucket], kind="stable")]
            batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
        for i in rng.permutation(len(batches)):
            yield batches[i]

    def _take_step(self, rows: Indices) -> float:
        torch.manual_seed((self.training.seed << 32) + self.step)
        factor = _rate_factor(self.step, self.n_steps, self.training.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        with autocast(self.device):
            loss = self.job.loss(rows).mean()
        value = float(loss.detach())
        if not np.isfinite(value):
            msg = (
                f"The loss is {value!r} at step {self.step}: lower `learning_rate` "
                f"({self.training.learning_rate!r})."
            )
            raise FloatingPointError(msg)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), self.training.clip_norm)
        self.optimizer.step()
        self.step += 1
        return value

    def _evaluate_when_due(self) -> bool:
        """Evaluate and write a checkpoint when due; return whether to stop early."""
        every = self.training.evaluate_every or self.batches_per_epoch
        due = self.step % every == 0 or self.step == self.n_steps
        if due and len(self.held_out) > 0:
            loss = self._validate()
            if loss < min((earlier for _, earlier in self.losses), default=np.inf):
                self.best, self.best_step, self.n_without_gain = self._weights(), self.step, 0
            else:
                self.n_without_gain += 1
            self.losses.append((self.step, loss))
        stop = self.n_without_gain >= self.training.patience
        if self.training.checkpoint_folder is not None:
            every = self.training.checkpoint_every or every
            if self.step % every == 0 or self.step == self.n_steps or stop:
                self._save()
        return stop

    def _validate(self) -> float:
        order = self.held_out[np.argsort(self.job.lengths[self.held_out], kind="stable")]
        size, total = self.training.batch_size, 0.0
        self.job.network.eval()
        with torch.no_grad(), autocast(self.device):
            for start in range(0, len(order), size):
                total += float(self.job.loss(order[start : start + size]).sum())
        self.job.network.train(self.job.dropout)
        return total / len(order)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().cpu().clone() for name, p in self.trained.items()}

    def _restore(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(weights[name])

    def _checkpoints(self) -> Path:
        assert self.training.checkpoint_folder is not None, "only called with a folder"
        key = data_hash(self.job.fingerprint, self.training.settings(), sorted(self.trained))
        return Path(self.training.checkpoint_folder) / key

    def _save(self) -> None:
        """Write a complete checkpoint beside the old one, then move it into place."""
        save_file = import_extra("safetensors.torch", "torch").save_file
        folder = self._checkpoints()
        fresh = folder / "writing"
        rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        weights = self._weights()
        save_file(weights, fresh / _WEIGHTS)
        save_file(weights if self.best is None else self.best, fresh / _BEST)
        state = self.optimizer.state_dict()["state"]
        flat = {f"{i}.{name}": value for i, slot in state.items() for name, value in slot.items()}
        save_file(flat, fresh / _OPTIMIZER)
        settings = {
            "step": self.step,
            "best_step": self.best_step,
            "waited": self.n_without_gain,
            "looks": self.losses,
        }
        artifact = Artifact("Checkpoint", settings, files=(_WEIGHTS, _BEST, _OPTIMIZER))
        write_artifact(fresh, artifact)
        older = list(folder.glob("step-*"))
        target = folder / f"step-{self.step:08d}"
        rmtree(target, ignore_errors=True)
        fresh.rename(target)
        for path in older:
            if path != target:
                rmtree(path)

    def _resume(self) -> None:
        if self.training.checkpoint_folder is None:
            return
        found = sorted(self._checkpoints().glob("step-*"))
        if len(found) == 0:
            return
        load_file = import_extra("safetensors.torch", "torch").load_file
        artifact = read_artifact(found[-1], "Checkpoint")
        weights, best = load_file(found[-1] / _WEIGHTS), load_file(found[-1] / _BEST)
        if not weights.keys() == best.keys() == self.trained.keys():
            msg = f"{str(found[-1])!r} has the weights of another network: delete this folder."
            raise ArtifactError(msg)
        self._restore(weights)
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in load_file(found[-1] / _OPTIMIZER).items():
            i, _, name = key.partition(".")
            state.setdefault(int(i), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        settings = artifact.settings
        self.step, self.best_step = settings["step"], settings["best_step"]
        self.n_without_gain = settings["waited"]
        self.losses = [(int(step), float(loss)) for step, loss in settings["looks"]]
        self.best = best if self.best_step > 0 else None


def _rate_factor(step: int, n_steps: int, warmup_share: float) -> float:
    """Compute the share of the peak rate: a linear rise in the warm-up, then a linear fall to 0."""
    warmup = round(warmup_share * n_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (n_steps - step) / max(n_steps - warmup, 1)
