"""The training loop, on networks small enough to see through."""

import numpy as np
import pytest

from tests.support.networks import need_torch

pytest.importorskip("torch", reason="torch is not installed (extra `torch`)")
need_torch()

import torch  # noqa: E402

from langchain_llm_router.estimators.training_loop import (  # noqa: E402
    History,
    Training,
    TrainingJob,
    _rate_factor,
    choose_device,
    seed_torch,
    train,
)
from langchain_llm_router.types.errors import ArtifactError  # noqa: E402

STEADY = {"warmup_share": 0.0, "weight_decay": 0.0, "validation_share": 0.0}


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


def test_one_step_of_adamw_moves_each_weight_by_the_learning_rate():
    it = job()
    before = weights(it)
    train(it, Training(max_steps=1, learning_rate=0.01, clip_norm=1e9, **STEADY))
    moved = weights(it)["body.weight"] - before["body.weight"]
    np.testing.assert_allclose(moved.abs(), 0.01, rtol=1e-3)


def test_fresh_weights_have_their_own_learning_rate():
    it = job(fresh=("head.",))
    before = weights(it)
    train(it, Training(max_steps=1, learning_rate=0.01, head_learning_rate=0.1, **STEADY))
    after = weights(it)
    np.testing.assert_allclose(abs(after["body.bias"] - before["body.bias"]), 0.01, rtol=1e-3)
    np.testing.assert_allclose(abs(after["head.bias"] - before["head.bias"]), 0.1, rtol=1e-3)


def test_frozen_weights_stay():
    it = job()
    it.network.body.requires_grad_(requires_grad=False)
    before = weights(it)
    train(it, Training(epochs=2, learning_rate=0.1))
    after = weights(it)
    assert torch.equal(after["body.weight"], before["body.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1 / 3), (1, 2 / 3), (2, 1.0), (6, 0.5), (9, 1 / 8)]
)
def test_the_rate_rises_and_falls_linearly(step, expected):
    assert _rate_factor(step, 10, 0.2) == pytest.approx(expected)


def test_training_learns_what_can_be_learned():
    it = job(200, dropout=False)
    history = train(it, Training(epochs=30, learning_rate=0.03))
    assert history.validation_loss[-1] < 0.2 * history.validation_loss[0]
    assert not it.network.training


def test_every_epoch_sees_every_training_row_once_and_no_held_out_row():
    log = []
    train(job(50, log=log), Training(epochs=1, batch_size=8, validation_share=0.2))
    seen = np.concatenate([rows for training, rows in log if training])
    held_out = np.concatenate([rows for training, rows in log if not training])
    assert sorted(np.concatenate([seen, held_out])) == list(range(50))
    assert len(held_out) == 10
    # Rows of one group (two neighbors) are on one side.
    assert set(seen // 2).isdisjoint(held_out // 2)


def test_early_stopping_keeps_the_best_weights():
    it = job(60, noise=True, dropout=False)
    training = Training(epochs=100, learning_rate=0.1, validation_share=0.3, patience=4)
    history = train(it, training)
    assert history.steps < 100 * 3
    assert history.best_step == history.validation_step[history.validation_loss.argmin()]
    assert len(history.validation_loss) == history.validation_loss.argmin() + 1 + 4


@pytest.mark.parametrize("fail_at", [3, 7, 8])
def test_a_resumed_run_ends_as_an_uninterrupted_one(fail_at, tmp_path):
    settings = {"epochs": 3, "batch_size": 9, "learning_rate": 0.05, "evaluate_every": 2}
    whole = job()
    expected = train(whole, Training(**settings))
    kept = Training(**settings, checkpoint_folder=tmp_path, checkpoint_every=1)
    with pytest.raises(Interrupted):
        train(job(fail_at=fail_at), kept)
    resumed = job()
    history = train(resumed, kept)
    assert history.steps == expected.steps
    assert history.best_step == expected.best_step
    np.testing.assert_array_equal(history.validation_loss, expected.validation_loss)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_a_resumed_run_does_not_repeat_steps(tmp_path):
    kept = Training(epochs=1, batch_size=9, checkpoint_folder=tmp_path, checkpoint_every=1)
    with pytest.raises(Interrupted):
        train(job(fail_at=4), kept)
    log = []
    train(job(log=log), kept)
    assert sum(training for training, _ in log) == 1  # 36 rows are four batches, three were done
    log.clear()
    train(job(log=log), kept)
    assert log == []


def test_another_run_does_not_resume_a_foreign_checkpoint(tmp_path):
    train(job(), Training(epochs=1, checkpoint_folder=tmp_path))
    log = []
    train(job(log=log), Training(epochs=1, seed=1, checkpoint_folder=tmp_path))
    assert len(log) > 0


def test_checkpoints_hold_no_pickle_and_only_the_latest_is_kept(tmp_path):
    train(job(), Training(epochs=2, checkpoint_folder=tmp_path, checkpoint_every=1))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npz", ".safetensors"}
    assert len({path.parent for path in files}) == 1


def test_a_corrupted_checkpoint_is_refused(tmp_path):
    kept = Training(epochs=1, checkpoint_folder=tmp_path)
    train(job(), kept)
    path = next(tmp_path.rglob("optimizer.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"optimizer\.safetensors does not match"):
        train(job(), kept)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(job(), Training(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_diverging_training_says_so():
    it = job()
    with torch.no_grad():
        it.network.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower `learning_rate`"):
        train(it, Training())


def test_the_progress_bar_is_off_unless_asked_for(capsys):
    train(job(), Training(epochs=1))
    assert capsys.readouterr().err == ""
    train(job(), Training(epochs=1, progress=True))
    assert "training" in capsys.readouterr().err


def test_a_history_survives_the_way_through_arrays():
    history = train(job(), Training(epochs=2))
    again = History.from_arrays(history.to_arrays())
    assert (again.steps, again.best_step) == (history.steps, history.best_step)
    np.testing.assert_array_equal(again.validation_loss, history.validation_loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` must be >= 1, got 0"),
        ({"max_steps": 0}, "`max_steps`"),
        ({"learning_rate": 0.0}, "`learning_rate` must be > 0, got 0.0"),
        ({"warmup_share": 1.0}, r"`warmup_share` must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"evaluate_every": 0}, "`evaluate_every`"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**settings)


def test_where_it_ran_is_not_part_of_the_settings(tmp_path):
    one = Training(progress=True, device="cpu", checkpoint_folder=tmp_path)
    assert one.settings() == Training().settings()


def test_the_device_is_a_gpu_where_there_is_one():
    assert choose_device("cpu").type == "cpu"
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
