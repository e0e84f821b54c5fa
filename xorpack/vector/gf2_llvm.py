"""What :mod:`xorpack.vector.gf2_bytes` and :mod:`xorpack.vector.gf2_pivots` are made of: LLVM's vectors of 64 bytes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from xorpack.vector import cpu

BYTE, WORD, INDEX = ir.IntType(8), ir.IntType(32), ir.IntType(64)
SLICE = ir.VectorType(BYTE, 64)
WORDS = ir.VectorType(INDEX, 8)


def number(value: int) -> Any:
    """A 64-bit constant."""
    return ir.Constant(INDEX, value)


def lanes(numbers: Any) -> Any:
    """Indices of a shuffle."""
    chosen = list(numbers)
    return ir.Constant(ir.VectorType(WORD, len(chosen)), chosen)


def spread(builder: Any, value: Any, n: int) -> Any:
    """``n`` times ``value``."""
    vector = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, one, lanes([0] * n))


def affine(builder: Any, x: Any, matrix: Any) -> Any:
    """64 bytes times their matrices, 32 at a time where the CPU has no more."""
    wide = cpu.has("avx512bw")
    n = 64 if wide else 32
    vector = ir.VectorType(BYTE, n)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector, vector, BYTE]), f"llvm.x86.vgf2p8affineqb.{8 * n}"
    )
    nothing = ir.Constant(BYTE, 0)
    if wide:
        return builder.call(function, [x, matrix, nothing])

    def part(value: Any, first: int) -> Any:
        return builder.shuffle_vector(value, value, lanes(range(first, first + n)))

    halves = [builder.call(function, [part(x, k), part(matrix, k), nothing]) for k in (0, n)]
    return builder.shuffle_vector(*halves, lanes(range(64)))


def spread_lane(builder: Any, words: Any, lane: Any) -> Any:
    """One 64-bit word of a slice, eight times."""
    lane32 = builder.trunc(lane, WORD)
    if cpu.has("avx512f"):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(WORDS, [WORDS, WORDS]), "llvm.x86.avx512.permvar.di.512"
        )
        return builder.bitcast(builder.call(function, [words, spread(builder, lane, 8)]), SLICE)
    return builder.bitcast(spread(builder, builder.extract_element(words, lane32), 8), SLICE)


def as_words(builder: Any, octets: Any) -> Any:
    """A slice as 64-bit words to be shuffled: LLVM 20 shuffles bytes instead, which it then cannot select."""
    words = builder.bitcast(octets, WORDS)
    if cpu.has("avx512f"):  # no instruction, but LLVM does not know where the words come from
        words = builder.asm(ir.FunctionType(WORDS, [WORDS]), "", "=v,0", [words], False)
    return words


def turn_bits(builder: Any, words: Any) -> Any:
    """8 x 8 bits each: bit i of byte r becomes bit ``7 - r`` of byte ``7 - i``, and back."""
    ones = ir.Constant(SLICE, [128 >> i % 8 for i in range(64)])
    return builder.bitcast(affine(builder, ones, builder.bitcast(words, SLICE)), words.type)


def turn_bytes(builder: Any, words: Any) -> Any:
    """8 x 8 bytes: byte r of word c becomes byte c of word r."""
    octets = builder.bitcast(words, SLICE)
    return builder.shuffle_vector(octets, octets, lanes([8 * (i % 8) + i // 8 for i in range(64)]))


def turn_words(builder: Any, vectors: list[Any]) -> list[Any]:
    """Eight vectors of eight words: word i of vector k becomes word k of vector i."""
    found = list(vectors)
    for step in (1, 2, 4):
        low = lanes([i - step + 8 if i & step else i for i in range(8)])
        high = lanes([i + 8 if i & step else i + step for i in range(8)])
        for k in range(8):
            if not k & step:
                a, b = found[k], found[k + step]
                found[k] = builder.shuffle_vector(a, b, low)
                found[k + step] = builder.shuffle_vector(a, b, high)
    return found
