"""The vector index over the passages: it records which embedder made it, from which data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from sklearn.pipeline import Pipeline

from pydocs_assistant import (
    embedding,
    passages,
)
from pydocs_assistant.embedding import Vectors
from pydocs_assistant.local_lance import lancedb
from pydocs_assistant.passages import Passage
from pydocs_assistant.paths import Region
from pydocs_assistant.registry import Registered

TABLE = "passages"


@dataclass(frozen=True, slots=True)
class Origin:
    """What an index says of itself: digest and dimension of its embedder, digest of its data set."""

    embedder: str
    dimension: int
    data_digest: str


def build(region: Region, made_by: Registered, embedder: Pipeline) -> str:
    """Embed the current data set and replace the table by it, as one version; return the embedder digest."""
    documents = passages.read(region)
    vectors = embedding.embed(embedder, map(embedding.passage_words, documents))
    origin = Origin(made_by.digest, vectors.shape[1], str(passages.current(region)["digest"]))
    region.index.mkdir(parents=True, exist_ok=True)
    lancedb.connect(region.index).create_table(TABLE, _table(documents, vectors, origin), mode="overwrite")
    return origin.embedder


def open_table(folder: Path) -> lancedb.table.Table:
    """The table of passages as it is now. Raises ``ValueError`` when there is none."""
    return lancedb.connect(folder).open_table(TABLE)


def origin_of(table: lancedb.table.Table) -> Origin:
    """What the index records of its origin; the dimension is that of its vectors, whatever is recorded."""
    recorded = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    dimension = table.schema.field("vector").type.list_size
    return Origin(recorded.get("embedder", ""), dimension, recorded.get("data_digest", ""))


def nearest(table: lancedb.table.Table, vector: Sequence[float], count: int) -> pa.Table:
    """The ``count`` passages nearest to a vector: id, topic, title, text and ``_distance`` (cosine)."""
    search = table.search(vector, vector_column_name="vector").distance_type("cosine")
    return search.select(["id", "topic", "title", "text", "_distance"]).limit(count).to_arrow()


def _table(documents: Sequence[Passage], vectors: Vectors, origin: Origin) -> pa.Table:
    dimension = vectors.shape[1]
    columns = {
        name: pa.array([getattr(passage, name) for passage in documents], pa.string())
        for name in ("id", "topic", "title", "text")
    }
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    recorded = {
        "embedder": origin.embedder,
        "dimension": str(origin.dimension),
        "data_digest": origin.data_digest,
    }
    return pa.table(columns).replace_schema_metadata(recorded)
