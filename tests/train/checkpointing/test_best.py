from train.checkpointing.best import best_row, best_step


def test_of_equals_the_newest_is_best():
    scores = {4: {'accuracy': 80.0}, 8: {'accuracy': 90.0}, 12: {'accuracy': 90.0}, 16: {'accuracy': 70.0}}
    assert best_step(scores, 'accuracy') == 12


def test_the_metric_decides_and_loss_counts_downwards():
    history = [
        {'step': 4, 'validation_accuracy': 70.0, 'validation_loss': 0.5},
        {'step': 8, 'validation_accuracy': 80.0, 'validation_loss': 0.9},
    ]
    assert best_row(history, 'validation', 'accuracy') is history[1]
    assert best_row(history, 'validation', 'loss') is history[0]
