"""The model card of an encoded directory: how to load it, and what comes of loading it without xorpack.

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

```console
pip install "xorpack[hf]"
```

```python
import xorpack.hf  # before from_pretrained

model = xorpack.hf.load("THIS_DIRECTORY")  # or from_pretrained of any class of transformers
```

The weights stay encoded in memory. Without the import, loading stops; a version or a tool that does not stop would use
**random weights** after a mere warning. `xorpack decode THIS_DIRECTORY PLAIN` makes plain safetensors of them.

{lossless}{sizes}

"""

_LOSSLESS = "They are encoded without loss: decoding gives back the very files, byte for byte."
_QUANTIZED = (
    "They are quantized: decoding gives back the quantized weights, not those before. `quantization_config` of "
    "`config.json` says how."
)


def mark(text: bytes | None, *, lossless: bool, sizes: tuple[int, int] | None = None) -> bytes:
    r"""A README.md with the card.

    Args:
        text: of the file; None if there is none.
        lossless: whether the weights are encoded so.
        sizes: bytes of the weights' files, before and now.

    >>> unmark(mark(b"---\nlicense: mit\n---\nhello", lossless=True))
    b'---\nlicense: mit\n---\nhello'
    """
    shown = [f"{size / (1 << 20):.1f} MiB" for size in sizes or ()]
    card = _TEXT.format(
        lossless=_LOSSLESS if lossless else _QUANTIZED,
        sizes=f" Their files take {shown[1]}, and took {shown[0]} before." if shown else "",
    )
    if text is None:
        return BEGIN_WHOLE + card.encode() + END
    at = _begin(text)
    return text[:at] + BEGIN + card.encode() + END + text[at:]


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
