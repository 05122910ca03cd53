"""Temperature and confidence threshold, fitted on the val split in bank mode.

Photos that the bank has are left out, as everywhere where val is to say something of new ones.

One temperature (Guo et al., ICML 2017) makes confidences mean what they say; the threshold is then
the lowest confidence at which the photos that are sorted keep to a wanted error rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import beta

from training import checkpoint
from training.checkpoint import write_json
from training.device import pick_device
from training.errors import ConfigError
from training.metrics import confidences, expected_calibration_error
from training.outcome import CALIBRATION, Array, Outcome, measure_model, photos_for, softmax
from training.served_bank import new_photos, trained_bank

SPLIT = "val"
LOG_RANGE = (-4.0, 4.0)  # of the temperature's natural logarithm
MARGIN = 0.01
DOUBTFUL = 3.0  # times the wanted error rate
LIKELY = 0.5


def calibrate_run(
    run: Path, data: Path, error_rate: float, superclass_map: Path | None, device: str
) -> None:
    """Fit both on val and write `calibration.json` into the run folder.

    Raises:
        ConfigError: for an error rate outside 0 to 1.
        RunError: for a run that is not finished.
        DataError: where val has no photo, or none that the bank does not have.
    """
    if not 0.0 <= error_rate < 1.0:
        raise ConfigError(f"expected an error rate from 0 to below 1, got {error_rate}")
    outcome = _measure(run, data, superclass_map, pick_device(device))
    temperature = fit_temperature(outcome.logits, outcome.labels)
    probabilities = softmax(outcome.logits / temperature)
    least = least_confidence(error_rate)
    threshold, share = fit_threshold(probabilities, outcome.labels, error_rate, least)
    write_json(
        run / CALIBRATION,
        {
            "temperature": temperature,
            "confidence_threshold": threshold,
            "wanted_error_rate": error_rate,
            "split": SPLIT,
            "photos": len(outcome.labels),
        },
    )
    before = expected_calibration_error(outcome.probabilities(1.0), outcome.labels)
    after = expected_calibration_error(probabilities, outcome.labels)
    print(f"temperature {temperature:.3f}: ECE on {SPLIT} {before:.4f} before, {after:.4f} after")
    if all_right(outcome.logits, outcome.labels):
        print(
            f"warning: all {len(outcome.labels)} photos of {SPLIT} are right, which does not tell "
            "how sure the model should be: it is made no surer than if one more were wrong; take "
            f"more of them for {SPLIT}"
        )
    elif not LOG_RANGE[0] + MARGIN < np.log(temperature) < LOG_RANGE[1] - MARGIN:
        print(
            "warning: the temperature stands at the end of its range: the "
            f"{len(outcome.labels)} photos of {SPLIT} do not tell how sure the model should be; "
            "take more of them"
        )
    if share:
        sorted_photos = round(share * len(outcome.labels))
        wrong = count_wrong(probabilities, outcome.labels, threshold)
        print(
            f"threshold {threshold:.4f}: {sorted_photos} of {len(outcome.labels)} photos of "
            f"{SPLIT} sorted ({share:.1%}), {wrong} of them wrong"
        )
        most = worst_error_rate(wrong, sorted_photos)
        if most > DOUBTFUL * error_rate:
            print(
                f"warning: so few photos only tell that at most {most:.0%} will be wrong, and not "
                f"{error_rate:.2%}; take more of them for {SPLIT}"
            )
    else:
        print(
            f"no threshold of {least:g} or more keeps errors to {error_rate:.2%} on {SPLIT}: every "
            "photo goes to manual sorting; ask for a higher --error-rate"
        )


def _measure(run: Path, data: Path, superclass_map: Path | None, device: str) -> Outcome:
    """Answers to the photos of val that the run's bank does not have."""
    model, state = checkpoint.load_model(run)
    photos = photos_for(run, data, superclass_map)
    found = measure_model(run, model.to(device), state, photos, SPLIT, device)
    if not model.method.has_bank:
        return found
    bank, use = trained_bank(model, state), f"calibration on {SPLIT}"
    return found.only(new_photos(bank, found.method, found.photos, found.embedding, use))


def count_wrong(probabilities: Array, labels: Array, threshold: float) -> int:
    """Photos at or above a threshold that get a wrong answer."""
    confidence, correct = confidences(probabilities, labels)
    return int((~correct[confidence >= threshold]).sum())


def worst_error_rate(wrong: int, photos: int) -> float:
    """The error rate that so many errors leave possible: Clopper and Pearson's bound, 95%."""
    return 1.0 if wrong >= photos else float(beta.ppf(0.95, wrong + 1, photos - wrong))


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature that makes the labels likeliest.

    Where all are right none does: the sharper, the likelier. Then each label counts for
    (n + 1) / (n + 2), and the other superclasses share the rest (Platt, 1999).

    Args:
        logits: float64 [n, K]; labels: int64 [n].
    """
    photos, superclasses = logits.shape
    wanted = np.eye(superclasses)[labels]
    if all_right(logits, labels) and superclasses > 1:
        other = 1.0 / (photos + 2)
        wanted = wanted * (1.0 - other) + (1.0 - wanted) * other / (superclasses - 1)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - (wanted * scaled).sum(axis=1)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=LOG_RANGE, method="bounded").x))


def all_right(logits: Array, labels: Array) -> bool:
    """Whether no photo gets another answer than its label."""
    return bool((logits.argmax(axis=1) == labels).all())


def least_confidence(error_rate: float) -> float:
    """What is more likely wrong than right is not sorted, whatever a few photos of val say."""
    return min(LIKELY, 1.0 - error_rate)


def fit_threshold(
    probabilities: Array, labels: Array, error_rate: float, least: float = 0.0
) -> tuple[float, float]:
    """The lowest threshold that keeps to an error rate, and the share of photos that pass it.

    Args:
        probabilities: float64 [n, K]; labels: int64 [n].
        error_rate: allowed share of errors among the photos at or above the threshold.
        least: that a threshold may be.

    Returns:
        (1.0, 0.0) where no threshold does; a confidence of exactly 1 then still passes.
    """
    confidence, correct = confidences(probabilities, labels)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    risk = np.cumsum(~correct[order]) / np.arange(1, len(order) + 1)
    # Photos of equal confidence pass or fail together: a threshold is only possible after the last.
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    possible = np.flatnonzero((risk <= error_rate) & last_of_ties & (ranked >= least))
    if len(possible) == 0:
        return 1.0, 0.0
    return float(ranked[possible[-1]]), float((possible[-1] + 1) / len(order))
