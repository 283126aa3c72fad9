"""Training: fit embedder and classifier without the held-out passages, log both, make both champions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import mlflow
import mlflow.sklearn
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from pydocs_assistant import embedding, golden, passages, registry
from pydocs_assistant.embedding import Vectors
from pydocs_assistant.golden import Question
from pydocs_assistant.passages import Passage
from pydocs_assistant.paths import Region

_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Material:
    """What training works with: all passages with topics and words, and which rows may be learned from."""

    passages: Sequence[Passage]
    words: list[str]
    topics: list[str]
    learned: list[int]
    held_out: list[Question]
    data_digest: str


def train(region: Region, *, dimension: int) -> str:
    """Train and register both models and make them champions; return the embedder's digest."""
    material = _material(region)
    embedder_version, embedder = train_embedder(region, material, dimension=dimension)
    vectors = embedding.embed(embedder, material.words)
    classifier_version = _train_classifier(region, material, vectors, embedder, embedder_version)
    client = registry.client_of(region)
    client.set_registered_model_alias("classifier", registry.CHAMPION, classifier_version)
    client.set_registered_model_alias("embedder", registry.CHAMPION, embedder_version.version)
    return embedder_version.digest


def train_challenger(region: Region, *, dimension: int) -> tuple[registry.Registered, Pipeline]:
    """Train and register another embedder; the champion stays who it is."""
    return train_embedder(region, _material(region), dimension=dimension)


def train_embedder(
    region: Region, material: Material, *, dimension: int
) -> tuple[registry.Registered, Pipeline]:
    """Fit, measure and register an embedder; return its version and the embedder itself."""
    embedder = embedding.new_embedder(dimension).fit([material.words[row] for row in material.learned])
    metrics = {f"recall_at_{_NEIGHBOURS}": _recall(embedder, material)}
    params: dict[str, float] = {
        "dimension": dimension,
        "terms": len(embedder["terms"].vocabulary_),
        "passages": len(material.learned),
    }
    tags = {"dimension": str(dimension), "data_digest": material.data_digest}
    return _register(region, "embedder", embedder, params=params, metrics=metrics, tags=tags), embedder


def _train_classifier(
    region: Region, material: Material, vectors: Vectors, embedder: Pipeline, embedded_by: registry.Registered
) -> str:
    topics = [material.topics[row] for row in material.learned]
    classifier = LogisticRegression(C=30.0, max_iter=500).fit(vectors[material.learned], topics)
    questions = embedding.embed(embedder, _question_words(material.held_out))
    expected = [question["expected"]["topic"] for question in material.held_out]
    metrics = {"accuracy": float(classifier.score(questions, expected))}
    params = {"C": classifier.C, "topics": len(classifier.classes_), "embedder_version": embedded_by.version}
    tags = {
        "dimension": str(vectors.shape[1]),
        "data_digest": material.data_digest,
        "embedder": embedded_by.digest,
    }
    return _register(region, "classifier", classifier, params=params, metrics=metrics, tags=tags).version


def _material(region: Region) -> Material:
    documents = passages.read(region)
    questions = golden.read(region)
    unseen = golden.held_out_passages(questions)
    return Material(
        passages=documents,
        words=[embedding.passage_words(passage) for passage in documents],
        topics=[passage.topic for passage in documents],
        learned=[row for row, passage in enumerate(documents) if passage.id not in unseen],
        held_out=[question for question in questions if question["held_out"]],
        data_digest=str(passages.current(region)["digest"]),
    )


def _question_words(questions: Sequence[Question]) -> list[str]:
    return [embedding.plain_words(question["request"]["question"]) for question in questions]


def _recall(embedder: Pipeline, material: Material) -> float:
    """The share of held-out questions whose passage is among the nearest, before any re-ranking."""
    similar = (
        embedding.embed(embedder, _question_words(material.held_out))
        @ embedding.embed(embedder, material.words).T
    )
    nearest = np.argsort(-similar, axis=1)[:, :_NEIGHBOURS]
    found = [
        question["expected"]["passages"][0] in {material.passages[row].id for row in rows}
        for question, rows in zip(material.held_out, nearest, strict=True)
    ]
    return sum(found) / len(found)


def _register(
    region: Region,
    name: str,
    model: Pipeline | LogisticRegression,
    *,
    params: dict[str, float],
    metrics: dict[str, float],
    tags: dict[str, str],
) -> registry.Registered:
    """Log a run with its model and register it; the requirements are stated, since guessing them is slow."""
    client = registry.client_of(region)
    mlflow.set_tracking_uri(region.tracking_uri)
    mlflow.set_registry_uri(region.tracking_uri)
    mlflow.set_experiment(registry.EXPERIMENT)
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params(params)
        mlflow.log_metrics(metrics)
        mlflow.set_tags(tags)
        mlflow.log_dict({"held_out": metrics}, "evaluation.json")
        logged = mlflow.sklearn.log_model(
            model,
            name=name,
            serialization_format="skops",
            pip_requirements=[f"{package}=={version(package)}" for package in ("scikit-learn", "skops")],
        )
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(
        name, logged.model_uri, run.info.run_id, tags, model_id=logged.model_id
    )
    return registry.registered(client, name, str(made.version))
