"""Versions of classifiers that truly differ, or do not: for shadows to tell apart."""

from pathlib import Path

import joblib
import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


class Unsure:
    """A model that does not answer the same question twice in the same way: of its labels a part is any."""

    def __init__(self, model, flips: float):
        self.model = model
        self.flips = flips

    def predict(self, rows):
        labels = self.model.predict(rows)
        flipped = np.random.random(len(labels)) < self.flips
        return np.where(flipped, np.random.randint(0, 10, len(labels)), labels)


def quantised(model: LogisticRegression, steps: int) -> LogisticRegression:
    """The same weights, each one of so many values."""
    coarse = LogisticRegression()
    coarse.__dict__.update(model.__dict__)
    width = np.abs(model.coef_).max() / steps
    coarse.coef_ = np.round(model.coef_ / width) * width
    return coarse


def train(folder: Path) -> dict[tuple[str, str], Path]:
    """The file of each (model, version); about a second."""
    rows, labels = load_digits(return_X_y=True)
    rows, labels = rows[::2] / 16.0, labels[::2]

    def forest(seed: int) -> RandomForestClassifier:
        return RandomForestClassifier(n_estimators=20, random_state=seed)

    # The upper half of the image.
    upper = make_column_transformer(("passthrough", slice(0, 32)))
    linear = LogisticRegression(max_iter=200).fit(rows, labels)
    fitted = forest(1).fit(rows, labels)
    models = {
        ("forest", "1"): fitted,
        ("forest", "seed"): forest(2).fit(rows, labels),
        ("forest", "features"): make_pipeline(upper, forest(1)).fit(rows, labels),
        ("linear", "1"): linear,
        ("linear", "quantised"): quantised(linear, 1 << 12),
        ("linear", "coarse"): quantised(linear, 2),
        ("unsure", "1"): Unsure(fitted, 0.05),
        ("unsure", "worse"): Unsure(fitted, 0.5),
    }
    files = {}
    for (name, version), model in models.items():
        files[name, version] = folder / f"{name}-{version}.joblib"
        joblib.dump(model, files[name, version])
    return files
