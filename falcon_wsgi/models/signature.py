"""What a model accepts: validation limits and the normal form that cache keys and predictions use."""

from __future__ import annotations

import unicodedata
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TEXT_LENGTH = 10_000


class TextSignature(BaseModel):
    """One text. Lengths are counted in Unicode code points."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text"] = "text"
    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(default=MAX_TEXT_LENGTH, ge=1, le=MAX_TEXT_LENGTH)


def normalise_text(text: str) -> str:
    """Unicode NFC with every run of white space as one space and none at the ends. Case is kept.

    The model is given this form too, so inputs with equal cache keys have equal answers.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())
