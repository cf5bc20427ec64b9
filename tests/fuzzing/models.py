"""A random model as a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Made:
    """format: "tflite" or "onnx".  steps: its operators, for people."""

    format: str
    seed: int
    data: bytes
    steps: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.format} {self.seed}"
