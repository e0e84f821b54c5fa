"""The model card of an encoded directory: that ``from_pretrained`` does not read what stands there, and what does.

The card is a block in README.md, after the front matter that the Hugging Face hub reads, or the whole of it where the
source had none. Decoding takes it out again: every other byte comes back.
"""

from __future__ import annotations

import re

NAME = "README.md"
BEGIN = b"<!-- xorpack: begin -->\n"
BEGIN_WHOLE = b"<!-- xorpack: begin, the file has nothing else -->\n"
END = b"<!-- xorpack: end -->\n"

_FRONT_MATTER = re.compile(rb"---[ \t]*\r?\n(.*?\r?\n)??---[ \t]*\r?\n", re.DOTALL)

_TEXT = """
# Encoded by xorpack

`from_pretrained` cannot read these weights: transformers stops, and a version or a tool that does not would use
**random weights** after a mere warning. Make plain safetensors of them first:

```console
pip install xorpack
xorpack decode THIS_DIRECTORY PLAIN
```

{lossless}

"""

_LOSSLESS = "They are encoded without loss: decoding gives back the very files, byte for byte."
_QUANTIZED = (
    "They are quantized: decoding gives back the quantized weights, not those before. `quantization_config` of "
    "`config.json` says how."
)


def mark(text: bytes | None, *, lossless: bool) -> bytes:
    r"""A README.md, None if there is none, with the card.

    >>> unmark(mark(b"---\nlicense: mit\n---\nhello", lossless=True))
    b'---\nlicense: mit\n---\nhello'
    """
    card = _TEXT.format(lossless=_LOSSLESS if lossless else _QUANTIZED).encode() + END
    if text is None:
        return BEGIN_WHOLE + card
    at = _begin(text)
    return text[:at] + BEGIN + card + text[at:]


def unmark(text: bytes) -> bytes | None:
    """Inverse of :func:`mark`, whatever else of the file has changed; a README.md without a card stays as it is."""
    at = _begin(text)
    marker = BEGIN_WHOLE if text.startswith(BEGIN_WHOLE) else BEGIN
    if not text.startswith(marker, at):
        at = text.find(marker)
    end = text.find(END, at) + len(END)
    if at < 0 or end < len(END):
        return text
    rest = text[:at] + text[end:]
    return rest if rest or marker == BEGIN else None


def _begin(text: bytes) -> int:
    found = _FRONT_MATTER.match(text)
    return 0 if found is None else found.end()
