"""Log loss, RMSE and MAE against hand-computed cases and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.metrics import mean_absolute_error

from funrec.metrics import TaskRows, UndefinedMetric
from funrec.metrics.errors import MAE, RMSE, LogLoss


def log_loss(labels, logits):
    return LogLoss().value(TaskRows(np.asarray(labels), np.asarray(logits)))


def rmse(labels, predictions):
    return RMSE().value(TaskRows(np.asarray(labels), np.asarray(predictions)))


def test_mae_equals_scikit_learn():
    labels, predictions = np.random.default_rng(0).normal(size=(2, 500))
    expected = mean_absolute_error(labels, predictions)
    assert MAE().value(TaskRows(labels, predictions)) == pytest.approx(expected, abs=1e-12)


def test_log_loss_equals_scikit_learn():
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal(1000).astype(np.float32)
    labels = (random.random(1000) < 0.3).astype(np.float32)
    reference = reference_log_loss(labels, 1 / (1 + np.exp(-logits.astype(np.float64))))
    assert log_loss(labels, logits) == pytest.approx(reference, abs=1e-12)


def test_log_loss_does_not_clip_extreme_logits():
    assert log_loss([1, 0], [800.0, 800.0]) == pytest.approx(400.0)
    assert log_loss([1, 0], [np.inf, -np.inf]) == 0.0
    assert log_loss([1, 0], [np.inf, np.inf]) == np.inf
    with pytest.raises(UndefinedMetric, match="no row"):
        log_loss([], [])


def test_rmse_is_the_hand_computed_value():
    assert rmse([1.0, 2.0, 3.0], [1.0, 4.0, 2.0]) == pytest.approx(np.sqrt(5 / 3))
    with pytest.raises(UndefinedMetric, match="no row"):
        rmse([], [])
    with pytest.raises(ValueError, match="of one length"):
        rmse([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        rmse([1.0], [np.nan])
