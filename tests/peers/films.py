"""Two rankers of films that real people rated, and people who click on what they would come to like.

The ratings are MovieLens 100K, which the package `recbole` brings along; it is fetched by pip when a test needs it, and
no part of this project. One ranker knows how often each film is liked, the other also who likes what (a truncated
singular value decomposition of who likes which, see Cremonesi, Koren, Turrin 2010).
"""

import random
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

PACKAGE = "recbole==1.2.1"
RATINGS = "recbole/dataset_example/ml-100k/ml-100k.inter"
SHOWN = 10
FACTORS = 20
# A rating from which on somebody likes a film.
LIKED = 4
# Somebody who looks at a film clicks on it with this probability: one that they like, and any other; else they look at
# the next with that probability.
CLICKS, STRAYS, GOES_ON = 0.6, 0.05, 0.85


@dataclass
class Films:
    """The two rankers, and what each user likes of what neither was told."""

    popular: Path
    factors: Path
    likes: dict[int, set[int]]


def fetch(folder: Path) -> np.ndarray:
    """User, film and rating, one line each."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    (wheel,) = folder.glob("recbole-*.whl")
    lines = zipfile.ZipFile(wheel).read(RATINGS).decode().splitlines()[1:]
    return np.array([[int(field) for field in line.split("\t")[:3]] for line in lines])


def learn(folder: Path, ratings: np.ndarray) -> Films:
    """From four fifths of the ratings."""
    held = np.random.default_rng(1).random(len(ratings)) < 0.2
    known, rest = ratings[~held], ratings[held]
    shape = tuple(ratings[:, :2].max(axis=0) + 1)
    liked = known[known[:, 2] >= LIKED]
    likes = csr_matrix((np.ones(len(liked)), (liked[:, 0], liked[:, 1])), shape=shape)
    seen = csr_matrix((np.ones(len(known)), (known[:, 0], known[:, 1])), shape=shape).toarray() > 0
    left, values, right = svds(likes, k=FACTORS, v0=np.ones(min(shape)))
    counts = np.asarray(likes.sum(axis=0))
    files = {}
    for name, users, films in [("popular", np.ones((shape[0], 1)), counts), ("factors", left * values, right)]:
        files[name] = folder / f"{name}.npz"
        np.savez(files[name], users=users, films=films, seen=seen)
    favourites = {}
    for user, film, rating in rest:
        if rating >= LIKED:
            favourites.setdefault(int(user), set()).add(int(film))
    return Films(files["popular"], files["factors"], favourites)


def click(shown: list[int], likes: set[int], chance: random.Random) -> int | None:
    """The slot that somebody clicks on who looks from the top and stops when they click."""
    for slot, film in enumerate(shown):
        if chance.random() < (CLICKS if film in likes else STRAYS):
            return slot
        if chance.random() >= GOES_ON:
            return None
    return None
