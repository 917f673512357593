"""Unicode NFC, in a time that grows no faster than the text."""

from __future__ import annotations

import re
import unicodedata

# All marks are between these; to look through the rest of Unicode too would add 50 ms to each start.
_CANDIDATES = range(0x300, 0x20000)
# Marks only once they are decomposed. Unicode's stability policy rules out that there will be more of them.
_HIDDEN = "\u0f73\u0f75\u0f81"
_MARK = f"[{''.join(filter(unicodedata.combining, map(chr, _CANDIDATES)))}{_HIDDEN}]"
# No language needs more than 30 marks in a row (UAX #15, Stream-Safe Text Format).
_LONG = 128
_LONG_RUN = re.compile(f"{_MARK}{{{_LONG},}}")
# To look at each character takes 20 times as long as NFC itself. A long run shows in every 32nd of them.
_STEP = 32
_SAMPLED_RUN = re.compile(f"{_MARK}{{{_LONG // _STEP}}}")


def nfc(text: str) -> str:
    """What `unicodedata.normalize("NFC", text)` returns.

    CPython sorts the marks behind a character by insertion: 10,000 of mixed classes held the event loop for 0.1 s,
    and a batch of such texts for five. Long runs are put in order here, and come to it sorted.
    """
    if text.isascii():
        return text
    if len(text) >= _LONG and _SAMPLED_RUN.search(text[::_STEP]):
        text = _LONG_RUN.sub(_in_order, text)
    return unicodedata.normalize("NFC", text)


def _in_order(run: re.Match[str]) -> str:
    """The marks decomposed and stably sorted by class, which is another spelling of the same text."""
    decomposed = "".join([unicodedata.normalize("NFD", mark) for mark in run[0]])
    return "".join(sorted(decomposed, key=unicodedata.combining))
