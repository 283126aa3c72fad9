"""From text to vectors: the embedder is TF-IDF and truncated SVD, always over the same plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from pydocs_assistant.passages import Passage

TERMS_MAX = 20_000
TITLE_WEIGHT = 3  # a title says more than any one line of the text
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

Vectors = NDArray[np.float32]
"""One row a text, each of length one."""


def plain_words(text: str) -> str:
    """The words of a text in lower case, with names cut at dots, underscores and capitals.

    >>> plain_words("asyncio.StreamReader.read_until()")
    'asyncio stream reader read until'
    """
    return " ".join(word.lower() for word in _WORD.findall(text))


def passage_words(passage: Passage) -> str:
    """The plain words of a passage, its title counted ``TITLE_WEIGHT`` times."""
    return plain_words(f"{passage.title} " * TITLE_WEIGHT + passage.text)


def new_embedder(dimension: int) -> Pipeline:
    """An embedder that is not fitted yet; the same texts always give the same vectors."""
    return Pipeline(
        [
            (
                "terms",
                TfidfVectorizer(
                    token_pattern=r"\S+", sublinear_tf=True, min_df=2, max_df=0.3, max_features=TERMS_MAX
                ),
            ),
            ("dimensions", TruncatedSVD(dimension, random_state=7)),
            ("length", Normalizer()),
        ]
    )


def embed(embedder: Pipeline, texts: Iterable[str]) -> Vectors:
    """The vectors of texts that are plain words already, shape (texts, dimension)."""
    vectors: Vectors = np.asarray(embedder.transform(list(texts)), dtype=np.float32)
    return vectors
