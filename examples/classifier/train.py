"""Trains the three versions of the digit classifier that `parhelion demo` serves.

Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1:

    python3 -m venv venv
    venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    venv/bin/python train.py

Version 1.0.0 is what a team has after its first afternoon: logistic regression on 100 labelled images.
Version 2.0.0 is a small neural network on all of them. Version 3.0.0-rc1, a candidate, has a second hidden layer; the
demo gives it copies only. Seeds are fixed, so a second run writes the same files.

Writes beside itself:
  digits-VERSION.json   dense layers, weights rounded to 4 decimals
  digits-test.csv       the 600 images that no version saw, each with its true label and with what each version says
                        of it, computed here from the rounded weights
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).resolve().parent
SEED = 7
TEST_ROWS = 600
FIRST_ROWS = 100
DECIMALS = 4
PIXEL_MAX = 16.0
# A pixel is a whole number from 0 to 16: one character each.
PIXEL_CHARACTERS = "0123456789abcdefg"


def layer(weights, bias, activation):
    """One dense layer: `weights[i][j]` leads from input i to output j."""
    return {
        "activation": activation,
        "weights": np.round(weights, DECIMALS).tolist(),
        "bias": np.round(bias, DECIMALS).tolist(),
    }


def first_version(images, labels):
    model = LogisticRegression(max_iter=1000).fit(images[:FIRST_ROWS], labels[:FIRST_ROWS])
    return [layer(model.coef_.T, model.intercept_, "softmax")], model


def network(images, labels, hidden_units):
    model = MLPClassifier(hidden_units, alpha=1e-3, max_iter=1000, random_state=SEED).fit(images, labels)
    *hidden, output = zip(model.coefs_, model.intercepts_)
    return [*(layer(*each, "relu") for each in hidden), layer(*output, "softmax")], model


def second_version(images, labels):
    return network(images, labels, (24,))


def third_version(images, labels):
    return network(images, labels, (32, 16))


def predict(layers, images):
    """The classes that the written weights give, as a reader of the file must compute them."""
    values = images
    for each in layers:
        values = values @ np.array(each["weights"]) + np.array(each["bias"])
        if each["activation"] == "relu":
            values = np.maximum(values, 0.0)
    return values.argmax(axis=1)


def main():
    warnings.simplefilter("error")
    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=TEST_ROWS, random_state=SEED, stratify=labels
    )
    said = []
    versions = {"1.0.0": first_version, "2.0.0": second_version, "3.0.0-rc1": third_version}
    for version, make in versions.items():
        layers, model = make(train / PIXEL_MAX, train_labels)
        classes = predict(layers, test / PIXEL_MAX)
        agree = (classes == model.predict(test / PIXEL_MAX)).mean()
        right = int((classes == test_labels).sum())
        print(f"{version}: {right} of {TEST_ROWS} right, accuracy {right / TEST_ROWS:.4f}; "
              f"{agree:.4f} of its answers are those of the unrounded model")
        file = {"name": "digits", "version": version, "pixel_max": PIXEL_MAX, "right": right, "layers": layers}
        (HERE / f"digits-{version}.json").write_text(json.dumps(file, separators=(",", ":")) + "\n")
        said.append(classes)

    lines = [",".join(["label", *versions, "pixels"])]
    for image, label, *classes in zip(test, test_labels, *said):
        text = "".join(PIXEL_CHARACTERS[int(pixel)] for pixel in image)
        lines.append(",".join([*map(str, [label, *classes]), text]))
    (HERE / "digits-test.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
