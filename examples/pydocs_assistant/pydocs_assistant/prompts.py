"""Prompts, flags and the experiment: versioned templates, and who is answered with which of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from pydocs_assistant.paths import Region, folder_digest, write_json, write_whole

_TEMPLATES = {
    1: "From Python's documentation:\n\n$passages\n",
    2: "$question\n\nAbout $topic, Python's documentation says:\n\n$passages\n\nSee also: $titles\n",
}
_FLAGS = {
    "flags": {"rerank": True},
    "experiment": {
        "name": "answer_style",
        "seed": "2024-06",
        "variants": [
            {"name": "plain", "template": "answer", "version": 1, "weight": 0.5},
            {"name": "see_also", "template": "answer", "version": 2, "weight": 0.5},
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of the experiment with the template that it answers by."""

    name: str
    weight: float
    template: Template


@dataclass(frozen=True, slots=True)
class Experiment:
    """An A/B experiment: the same user always gets the same variant, in every region."""

    seed: str
    variants: tuple[Variant, ...]

    def variant_of(self, user: str) -> Variant:
        """The variant of a user: a hash of seed and user, laid over the weights in their order."""
        hashed = hashlib.sha256(f"{self.seed}:{user}".encode()).digest()
        point = int.from_bytes(hashed[:8]) / 2**64 * sum(variant.weight for variant in self.variants)
        for variant in self.variants:
            point -= variant.weight
            if point < 0:
                return variant
        return self.variants[-1]


def write(region: Region, *, dimension: int) -> str:
    """Write every version of the templates and name the active one; return the digest of the folder."""
    for version, text in _TEMPLATES.items():
        write_whole(region.prompts / "answer" / f"v{version}.txt", text.encode())
    active = {
        "template": "answer",
        "version": max(_TEMPLATES),
        "versions": sorted(_TEMPLATES),
        "model": "embedder",
        "embedder_dimension": dimension,
    }
    write_json(region.prompts / "active.json", active)
    return folder_digest(region.prompts)


def write_flags(region: Region) -> str:
    """Write the feature flags and the experiment; return the digest of their folder."""
    write_json(region.flags, _FLAGS)
    return folder_digest(region.flags.parent)


def read_flags(region: Region) -> dict[str, bool]:
    """The feature flags."""
    flags: dict[str, bool] = json.loads(region.flags.read_bytes())["flags"]
    return flags


def read_experiment(region: Region) -> Experiment:
    """The experiment with the templates of its variants. Raises ``OSError`` for one that is missing."""
    experiment = json.loads(region.flags.read_bytes())["experiment"]
    return Experiment(experiment["seed"], tuple(_variant(region, each) for each in experiment["variants"]))


def render(
    variant: Variant, *, question: str, topic: str, texts: Sequence[str], titles: Sequence[str]
) -> str:
    """The answer of a variant, made of the best passages."""
    return variant.template.substitute(
        question=question,
        topic=topic.replace("_", " "),
        passages="\n\n".join(texts) or "nothing that would fit.",
        titles=", ".join(titles),
    )


def _variant(region: Region, described: dict[str, Any]) -> Variant:
    path = region.prompts / described["template"] / f"v{described['version']}.txt"
    return Variant(described["name"], float(described["weight"]), Template(path.read_text("utf-8")))
