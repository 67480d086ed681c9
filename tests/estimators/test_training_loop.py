"""The training loop, on networks small enough to see through."""

import numpy as np
import pytest

from langchain_llm_router.types.errors import ArtifactError

STEADY = {"warmup_share": 0.0, "weight_decay": 0.0, "validation_share": 0.0}


@pytest.fixture(scope="module")
def toy(torch):
    """The training loop, and a network to train with it."""
    from tests.support import training_jobs

    return training_jobs


def test_one_step_of_adamw_moves_each_weight_by_the_learning_rate(toy):
    it = toy.job()
    before = toy.weights(it)
    toy.train(it, toy.Training(max_steps=1, learning_rate=0.01, clip_norm=1e9, **STEADY))
    moved = toy.weights(it)["body.weight"] - before["body.weight"]
    np.testing.assert_allclose(moved.abs(), 0.01, rtol=1e-3)


def test_fresh_weights_have_their_own_learning_rate(toy):
    it = toy.job(fresh=("head.",))
    before = toy.weights(it)
    toy.train(it, toy.Training(max_steps=1, learning_rate=0.01, head_learning_rate=0.1, **STEADY))
    after = toy.weights(it)
    np.testing.assert_allclose(abs(after["body.bias"] - before["body.bias"]), 0.01, rtol=1e-3)
    np.testing.assert_allclose(abs(after["head.bias"] - before["head.bias"]), 0.1, rtol=1e-3)


def test_frozen_weights_stay(toy, torch):
    it = toy.job()
    it.network.body.requires_grad_(requires_grad=False)
    before = toy.weights(it)
    toy.train(it, toy.Training(epochs=2, learning_rate=0.1))
    after = toy.weights(it)
    assert torch.equal(after["body.weight"], before["body.weight"])
    assert not torch.equal(after["head.weight"], before["head.weight"])


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1 / 3), (1, 2 / 3), (2, 1.0), (6, 0.5), (9, 1 / 8)]
)
def test_the_rate_rises_and_falls_linearly(step, expected, toy):
    assert toy._rate_factor(step, 10, 0.2) == pytest.approx(expected)


def test_training_learns_what_can_be_learned(toy):
    it = toy.job(200, dropout=False)
    history = toy.train(it, toy.Training(epochs=30, learning_rate=0.03))
    assert history.validation_loss[-1] < 0.2 * history.validation_loss[0]
    assert not it.network.training


def test_every_epoch_sees_every_training_row_once_and_no_held_out_row(toy):
    log = []
    toy.train(toy.job(50, log=log), toy.Training(epochs=1, batch_size=8, validation_share=0.2))
    seen = np.concatenate([rows for training, rows in log if training])
    held_out = np.concatenate([rows for training, rows in log if not training])
    assert sorted(np.concatenate([seen, held_out])) == list(range(50))
    assert len(held_out) == 10
    # Rows of one group (two neighbors) are on one side.
    assert set(seen // 2).isdisjoint(held_out // 2)


def test_early_stopping_keeps_the_best_weights(toy):
    it = toy.job(60, noise=True, dropout=False)
    training = toy.Training(epochs=100, learning_rate=0.1, validation_share=0.3, patience=4)
    history = toy.train(it, training)
    assert history.steps < 100 * 3
    assert history.best_step == history.validation_step[history.validation_loss.argmin()]
    assert len(history.validation_loss) == history.validation_loss.argmin() + 1 + 4


@pytest.mark.parametrize("fail_at", [3, 7, 8])
def test_a_resumed_run_ends_as_an_uninterrupted_one(fail_at, tmp_path, toy, torch):
    settings = {"epochs": 3, "batch_size": 9, "learning_rate": 0.05, "evaluate_every": 2}
    whole = toy.job()
    expected = toy.train(whole, toy.Training(**settings))
    kept = toy.Training(**settings, checkpoint_folder=tmp_path, checkpoint_every=1)
    with pytest.raises(toy.Interrupted):
        toy.train(toy.job(fail_at=fail_at), kept)
    resumed = toy.job()
    history = toy.train(resumed, kept)
    assert history.steps == expected.steps
    assert history.best_step == expected.best_step
    np.testing.assert_array_equal(history.validation_loss, expected.validation_loss)
    for name, value in toy.weights(whole).items():
        assert torch.equal(value, toy.weights(resumed)[name]), name


def test_a_resumed_run_does_not_repeat_steps(tmp_path, toy):
    kept = toy.Training(epochs=1, batch_size=9, checkpoint_folder=tmp_path, checkpoint_every=1)
    with pytest.raises(toy.Interrupted):
        toy.train(toy.job(fail_at=4), kept)
    log = []
    toy.train(toy.job(log=log), kept)
    assert sum(training for training, _ in log) == 1  # 36 rows are four batches, three were done
    log.clear()
    toy.train(toy.job(log=log), kept)
    assert log == []


def test_another_run_does_not_resume_a_foreign_checkpoint(tmp_path, toy):
    toy.train(toy.job(), toy.Training(epochs=1, checkpoint_folder=tmp_path))
    log = []
    toy.train(toy.job(log=log), toy.Training(epochs=1, seed=1, checkpoint_folder=tmp_path))
    assert len(log) > 0


def test_checkpoints_hold_no_pickle_and_only_the_latest_is_kept(tmp_path, toy):
    toy.train(toy.job(), toy.Training(epochs=2, checkpoint_folder=tmp_path, checkpoint_every=1))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npz", ".safetensors"}
    assert len({path.parent for path in files}) == 1


def test_a_corrupted_checkpoint_is_refused(tmp_path, toy):
    kept = toy.Training(epochs=1, checkpoint_folder=tmp_path)
    toy.train(toy.job(), kept)
    path = next(tmp_path.rglob("optimizer.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"optimizer\.safetensors does not match"):
        toy.train(toy.job(), kept)


def test_the_global_random_state_is_left_alone(toy, torch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    toy.train(toy.job(), toy.Training(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_diverging_training_says_so(toy, torch):
    it = toy.job()
    with torch.no_grad():
        it.network.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="lower `learning_rate`"):
        toy.train(it, toy.Training())


def test_the_progress_bar_is_off_unless_asked_for(capsys, toy):
    toy.train(toy.job(), toy.Training(epochs=1))
    assert capsys.readouterr().err == ""
    toy.train(toy.job(), toy.Training(epochs=1, progress=True))
    assert "training" in capsys.readouterr().err


def test_a_history_survives_the_way_through_arrays(toy):
    history = toy.train(toy.job(), toy.Training(epochs=2))
    again = toy.History.from_arrays(history.to_arrays())
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
def test_wrong_settings_are_named(settings, message, toy):
    with pytest.raises(ValueError, match=message):
        toy.Training(**settings)


def test_where_it_ran_is_not_part_of_the_settings(tmp_path, toy):
    one = toy.Training(progress=True, device="cpu", checkpoint_folder=tmp_path)
    assert one.settings() == toy.Training().settings()


def test_the_device_is_a_gpu_where_there_is_one(toy, torch):
    assert toy.choose_device("cpu").type == "cpu"
    assert toy.choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
