"""Trains small transformers and writes what training leaves behind: run by ``training.py``, where torch is.

``python transformer.py PLAN`` It imports torch and nothing of ours. ``PLAN`` is a JSON file; what came of it goes to
``PLAN``'s ``out`` as files and, for ``training.py`` to check, to standard output as one JSON document.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody has it
from torch import nn

VOCABULARY = 256  # the tokens are bytes: every row of the embedding is trained, as in a model that is
CONTEXT = 128
HEAD = 64  # values in one attention head
INIT_STD = 0.02  # GPT-2's
LEARNING_RATE, WARM_UP_STEPS = 3e-4, 20
CLIP = 1.0
DOCUMENTS_AT_ONCE = 1024


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and around a shortcut (GPT-2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` is (batch, time, width), and so is what comes out."""
        batch, time, width = x.shape
        parts = self.qkv(self.norm_1(x)).view(batch, time, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, time, width))
        return x + self.mlp(self.norm_2(x))


class Transformer(nn.Module):
    """Predicts the next byte."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=INIT_STD)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits for the byte after each."""
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Training:
    """A model, its optimizer, and how far they are."""

    def __init__(self, corpus: torch.Tensor, shape: dict[str, int], *, seed: int) -> None:
        torch.manual_seed(seed)
        self.random = torch.Generator().manual_seed(seed)
        self.corpus, self.batch = corpus, shape["batch"]
        self.model = Transformer(shape["width"], shape["layers"])
        self.restart(LEARNING_RATE)
        self.losses: list[float] = []

    def restart(self, learning_rate: float, warm_up: int = WARM_UP_STEPS) -> None:
        """A new optimizer, as at the beginning of a run."""
        self.step, self.learning_rate, self.warm_up = 0, learning_rate, warm_up
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate)

    def until(self, step: int) -> None:
        """Train until so many steps are done."""
        while self.step < step:
            self.step += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * min(1.0, self.step / max(1, self.warm_up))
            starts = torch.randint(len(self.corpus) - CONTEXT - 1, (self.batch,), generator=self.random)
            cut = torch.stack([self.corpus[at : at + CONTEXT + 1] for at in starts.tolist()]).long()
            loss = F.cross_entropy(self.model(cut[:, :-1]).flatten(0, 1), cut[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
            self.losses.append(loss.item())

    def save(self, path: Path) -> None:
        """The checkpoint as most training loops write it."""
        path.parent.mkdir(parents=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, path)

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights alone, in bf16."""
        return {
            name: value.detach().bfloat16().contiguous() for name, value in self.model.state_dict().items()
        }

    def moved(self) -> float:
        """The share of Adam's first moments that are not zero: 1 where everything is trained."""
        moments = [state["exp_avg"] for state in self.optimizer.state.values()]
        return sum(int(m.count_nonzero()) for m in moments) / sum(m.numel() for m in moments)


def save_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """bf16 tensors as safetensors; by its own package where that is installed."""
    path.parent.mkdir(parents=True)
    try:
        from safetensors.torch import save_file
    except ImportError:
        _write_safetensors(tensors, path)
    else:
        save_file(tensors, path, metadata={"format": "pt"})


def _write_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Eight bytes with the length of a JSON header, the header, and the tensors (safetensors' README)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, value in tensors.items():
        length = value.numel() * value.element_size()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [at, at + length]}
        at += length
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        for value in tensors.values():
            file.write(value.view(torch.uint8).numpy().tobytes())


@torch.no_grad()
def embed(model: Transformer, documents: list[bytes]) -> Iterator[torch.Tensor]:
    """Vectors of unit length: what the first feed-forward layer makes of the mean of a document's bytes."""
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        several = documents[start : start + DOCUMENTS_AT_ONCE]
        counts = torch.stack([torch.bincount(_bytes(d), minlength=VOCABULARY) for d in several])
        means = (counts / counts.sum(1, keepdim=True)) @ model.tokens.weight
        yield F.normalize(model.blocks[0].mlp(model.blocks[0].norm_2(means)))


def _bytes(text: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """The share of values that are not what they were."""
    differ = sum(int((before[name] != after[name]).sum()) for name in before)
    return differ / sum(value.numel() for value in before.values())


def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Train what the plan says, and tell how it went."""
    torch.set_num_threads(plan["threads"])  # the sums of more would be others, and so the bytes
    out, corpus = Path(plan["out"]), _bytes(Path(plan["corpus"]).read_bytes())
    small = Training(corpus, plan["small"], seed=plan["seed"])
    shares: dict[str, float] = {}
    before: dict[str, torch.Tensor] = {}
    for step in plan["steps"]:
        small.until(step)
        small.save(out / "series" / f"step-{step}" / "checkpoint.pt")
        now = {name: value.clone() for name, value in small.model.state_dict().items()}
        if before:
            shares[f"fp32 weights changed at step {step}"] = _changed(before, now)
        before = now
    small.until(plan["steps"][-1] + plan["more_steps"])
    small.save(out / "mixed" / "checkpoint" / "checkpoint.pt")
    shares["moments that are not zero"] = small.moved()
    documents = [line.encode() for line in json.loads(Path(plan["documents"]).read_text())]
    with (out / "embeddings.f32").open("wb") as file:
        for vectors in embed(small.model, documents):
            file.write(vectors.numpy().tobytes())
    large = Training(corpus, plan["large"], seed=plan["seed"] + 1)
    large.until(plan["large"]["steps"])
    losses, base = {"small": small.losses, "large": list(large.losses)}, large.weights()
    save_safetensors(base, out / "weights" / "base" / "model.safetensors")
    large.model.load_state_dict({name: value.float() for name, value in base.items()})
    large.restart(plan["tuned"]["learning_rate"], warm_up=0)
    large.until(plan["tuned"]["steps"])
    tuned = large.weights()
    save_safetensors(tuned, out / "weights" / "tuned" / "model.safetensors")
    shares["bf16 weights changed by the fine-tune"] = _changed(base, tuned)
    parameters = {"small": small.model, "large": large.model}
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in parameters.items()}
    return {"losses": losses, "shares": shares, "parameters": counts, "torch": torch.__version__}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
