"""Vector operations of a Viterbi search: add, compare, select; and the reordering between two steps.

Like :mod:`xorpack.vector.llvm`: plain numpy functions, for which kernels emit LLVM vectors of 32 int16. Costs are int16
that stop at 32767, so that results are the same on every machine. Arrays are flat and contiguous; indices are not
checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import Signature
from numpy.typing import NDArray

from xorpack.vector.llvm import emits

LANES = 32
"""States that are treated at once."""

DOUBLINGS = 2
"""Doublings of a difference where it is to be squared finely."""

UNROLLED = 2
"""Branches that are unrolled: 2**UNROLLED at the most at a time; half as many bits where a step has several weights."""

_SHORT, _WORD, _INDEX = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SHORTS, _WORDS = ir.VectorType(_SHORT, LANES), ir.VectorType(_WORD, LANES)


def add_compare_select(
    new: NDArray[np.int16],
    old: NDArray[np.int16],
    run: int,
    levels: NDArray[np.int16],
    starts: NDArray[np.int64],
    n_weights: int,
    n_dropped: int,
    n_new: int,
    targets: NDArray[np.int16],
    weights: NDArray[np.int16],
    weighted: bool,
    fine: bool,
    survivors: NDArray[np.uint32],
    at: int,
) -> int:
    """One step of a Viterbi search; returns the least of the new costs.

    For ``b < 2**n_dropped`` and ``i < n_new``, with saturating int16 sums::

        d = targets[j] - levels[starts[j] + b * n_new + i]          for each j < n_weights
        d = 4 * d                                                   if fine
        cost[b, i] = old[b * run + i % run] + sum over j of (d * d >> 16)
        new[i] = least of cost[:, i], reached first at b = survivor

    ``d * d`` is ``(d * weights[j] >> 16) * d`` if ``weighted``. ``run`` is a power of two from 32 on, ``n_new`` a
    multiple of 32. Bit ``k`` of survivor ``i`` is bit ``i % 32`` of ``survivors[at + i // 32 * n_dropped + k]``.
    """
    best = np.full(n_new, np.iinfo(np.int16).max, np.int64)
    choice = np.zeros(n_new, np.int64)
    columns = np.arange(n_new)
    for b in range(1 << n_dropped):
        cost = old[b * run + columns % run].astype(np.int64)
        for j in range(n_weights):
            first = int(starts[j]) + b * n_new
            d = np.clip(int(targets[j]) - levels[first : first + n_new].astype(np.int64), -32768, 32767)
            if fine:
                d = np.clip(d << DOUBLINGS, -32768, 32767)
            e = d * int(weights[j]) >> 16 if weighted else d
            cost = np.minimum(cost + (e * d >> 16), 32767)
        choice[cost < best] = b
        best = np.minimum(best, cost)
    new[:n_new] = best
    bits = np.uint32(1) << np.arange(LANES, dtype=np.uint32)
    for k in range(n_dropped):
        chosen = (choice >> k & 1).astype(np.uint32).reshape(-1, LANES)
        survivors[at + k : at + n_new // LANES * n_dropped : n_dropped] = (chosen * bits).sum(
            1, dtype=np.uint32
        )
    return int(best.min())


def unshuffle(target: NDArray[np.int16], source: NDArray[np.int16], n: int, less: int) -> None:
    """``target[h * n / 2 + i] = source[2 * i + h] - less`` for ``h < 2``; ``n`` is a multiple of 64."""
    target[:n] = (source[:n].reshape(-1, 2).T.reshape(-1).astype(np.int64) - less).astype(np.int16)


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return cgutils.create_struct_proxy(kind)(context, builder, array).data


def _load(builder: Any, data: Any, index: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [index]), _SHORTS.as_pointer()), align=2)


def _store(builder: Any, value: Any, data: Any, index: Any) -> None:
    builder.store(value, builder.bitcast(builder.gep(data, [index]), _SHORTS.as_pointer()), align=2)


def _splat(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_SHORTS, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_WORDS, [0] * LANES))


def _pair(builder: Any, name: str, a: Any, b: Any) -> Any:
    """``llvm.NAME`` of two vectors of int16."""
    kind = ir.FunctionType(_SHORTS, [_SHORTS, _SHORTS])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}i16")
    return builder.call(function, [a, b])


def _high(builder: Any, a: Any, b: Any) -> Any:
    """High 16 bits of the products: one instruction where the CPU has it."""
    product = builder.mul(builder.sext(a, _WORDS), builder.sext(b, _WORDS))
    return builder.trunc(builder.ashr(product, ir.Constant(_WORDS, [16] * LANES)), _SHORTS)


class _Step:
    """The code of one :func:`add_compare_select`, in the variants that its flags choose between."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.new, self.old, self.levels, self.starts, self.targets, self.weights, self.survivors = (
            _data(context, builder, signature.args[i], args[i]) for i in (0, 1, 3, 4, 8, 9, 12)
        )
        self.run, self.n_weights, self.n_dropped, self.n_new, self.at = (args[i] for i in (2, 5, 6, 7, 13))
        self.weighted, self.fine = args[10], args[11]
        self.low = cgutils.alloca_once_value(builder, ir.Constant(_SHORTS, [32767] * LANES))

    def variants(self) -> Any:
        """All variants, and the least new cost."""
        builder = self.builder
        single = builder.icmp_signed("==", self.n_weights, _number(1))
        with builder.if_else(single) as (true, false):
            with true:
                one = builder.icmp_signed("==", self.n_dropped, _number(1))
                with builder.if_else(one) as (narrow, wide):
                    with narrow:
                        self._choose([self.weighted, self.fine], (), True, 1, False)
                    with wide:
                        self._choose([self.weighted, self.fine], (), True, UNROLLED, True)
            with false:
                self._choose([self.weighted, self.fine], (), False, 1, True)
        kind = ir.FunctionType(_SHORT, [_SHORTS])
        name = f"llvm.vector.reduce.smin.v{LANES}i16"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.sext(builder.call(function, [builder.load(self.low)]), _INDEX)

    def _choose(
        self, conditions: list[Any], flags: tuple[bool, ...], single: bool, n_unrolled: int, more: bool
    ) -> None:
        if not conditions:
            self._loop(single, flags, n_unrolled, more)
            return
        with self.builder.if_else(conditions[0]) as (true, false):
            with true:
                self._choose(conditions[1:], (*flags, True), single, n_unrolled, more)
            with false:
                self._choose(conditions[1:], (*flags, False), single, n_unrolled, more)

    def _loop(self, single: bool, flags: tuple[bool, ...], n_unrolled: int, more: bool) -> None:
        """All columns, of one variant; ``more``: there may be more than ``2**n_unrolled`` branches."""
        builder = self.builder
        first = self._weight(_number(0)) if single else None
        with cgutils.for_range(builder, builder.lshr(self.n_new, _number(5))) as loop:
            column = builder.shl(loop.index, _number(5))
            best, choice = self._select(column, _number(0), n_unrolled, first, flags)
            if more:
                best, choice = self._others(column, n_unrolled, best, choice, first, flags)
            _store(builder, best, self.new, column)
            builder.store(_pair(builder, "smin", builder.load(self.low), best), self.low)
            base = builder.add(self.at, builder.mul(loop.index, self.n_dropped))
            for k in range(n_unrolled):
                self._keep(choice, base, _number(k))
            if more:
                with cgutils.for_range(builder, self.n_dropped, start=_number(n_unrolled)) as bits:
                    self._keep(choice, base, bits.index)

    def _others(
        self, column: Any, n_unrolled: int, best: Any, choice: Any, first: Any, flags: tuple[bool, ...]
    ) -> Any:
        """The branches after the first ``2**n_unrolled``, so many at a time."""
        builder = self.builder
        best_at = cgutils.alloca_once_value(builder, best)
        choice_at = cgutils.alloca_once_value(builder, choice)
        n_groups = builder.lshr(builder.shl(_number(1), self.n_dropped), _number(n_unrolled))
        with cgutils.for_range(builder, n_groups, start=_number(1)) as groups:
            begin = builder.shl(groups.index, _number(n_unrolled))
            other, chosen = self._select(column, begin, n_unrolled, first, flags)
            chosen = builder.or_(chosen, _splat(builder, builder.trunc(begin, _SHORT)))
            before = builder.load(best_at)
            less = builder.icmp_signed("<", other, before)
            builder.store(builder.select(less, chosen, builder.load(choice_at)), choice_at)
            builder.store(_pair(builder, "smin", before, other), best_at)
        return builder.load(best_at), builder.load(choice_at)

    def _select(self, column: Any, begin: Any, n_bits: int, first: Any, flags: tuple[bool, ...]) -> Any:
        """Least cost and its branch, less ``begin``, of ``2**n_bits`` branches from ``begin`` on."""
        builder = self.builder
        found = [
            (
                self._cost(column, builder.add(begin, _number(b)), first, flags),
                ir.Constant(_SHORTS, [b] * LANES),
            )
            for b in range(1 << n_bits)
        ]
        while len(found) > 1:
            pairs = zip(found[::2], found[1::2], strict=True)
            found = [
                (
                    _pair(builder, "smin", a, b),
                    builder.select(builder.icmp_signed("<", b, a), b_choice, a_choice),
                )
                for (a, a_choice), (b, b_choice) in pairs
            ]
        return found[0]

    def _cost(self, column: Any, b: Any, first: Any, flags: tuple[bool, ...]) -> Any:
        builder = self.builder
        inside = builder.and_(column, builder.sub(self.run, _number(1)))
        cost = _load(builder, self.old, builder.add(builder.mul(b, self.run), inside))
        place = builder.add(builder.mul(b, self.n_new), column)
        if first is not None:
            return self._add(cost, place, first, *flags)
        cost_at = cgutils.alloca_once_value(builder, cost)
        with cgutils.for_range(builder, self.n_weights) as loop:
            total = self._add(builder.load(cost_at), place, self._weight(loop.index), *flags)
            builder.store(total, cost_at)
        return builder.load(cost_at)

    def _weight(self, j: Any) -> tuple[Any, Any, Any]:
        """Start of the levels, target and weight of the step's weight ``j``."""
        builder = self.builder
        start = builder.load(builder.gep(self.starts, [j]))
        return start, *(
            _splat(builder, builder.load(builder.gep(data, [j]))) for data in (self.targets, self.weights)
        )

    def _add(self, cost: Any, place: Any, weight: tuple[Any, Any, Any], weighted: bool, fine: bool) -> Any:
        builder = self.builder
        start, target, importance = weight
        d = _pair(builder, "ssub.sat", target, _load(builder, self.levels, builder.add(start, place)))
        for _ in range(DOUBLINGS if fine else 0):
            d = _pair(builder, "sadd.sat", d, d)
        e = _high(builder, d, importance) if weighted else d
        return _pair(builder, "sadd.sat", cost, _high(builder, e, d))

    def _keep(self, choice: Any, base: Any, k: Any) -> None:
        """Store bit ``k`` of the survivors."""
        builder = self.builder
        bit = _splat(builder, builder.shl(ir.Constant(_SHORT, 1), builder.trunc(k, _SHORT)))
        chosen = builder.icmp_unsigned("!=", builder.and_(choice, bit), ir.Constant(_SHORTS, [0] * LANES))
        builder.store(builder.bitcast(chosen, _WORD), builder.gep(self.survivors, [builder.add(base, k)]))


@emits(add_compare_select)
def _add_compare_select(
    new: Any, old: Any, run: Any, levels: Any, starts: Any, n_weights: Any, n_dropped: Any,
    n_new: Any, targets: Any, weights: Any, weighted: Any, fine: Any, survivors: Any, at: Any,
) -> tuple[Signature, Any]:  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _Step(context, builder, signature, args).variants()

    n, flag = types.int64, types.boolean
    return n(new, old, n, levels, starts, n, n, n, targets, weights, flag, flag, survivors, n), codegen


@emits(unshuffle)
def _unshuffle(target: Any, source: Any, n: Any, less: Any) -> tuple[Signature, Any]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        into, origin = (_data(context, builder, signature.args[i], args[i]) for i in (0, 1))
        less = _splat(builder, builder.trunc(args[3], _SHORT))
        half = builder.lshr(args[2], _number(1))
        with cgutils.for_range(builder, builder.lshr(args[2], _number(6))) as loop:
            at = builder.shl(loop.index, _number(6))
            parts = (_load(builder, origin, builder.add(at, _number(i))) for i in (0, LANES))
            a, b = (builder.sub(part, less) for part in parts)
            to = builder.shl(loop.index, _number(5))
            for h in range(2):
                lanes = ir.Constant(_WORDS, list(range(h, 2 * LANES, 2)))
                place = builder.add(to, half) if h else to
                _store(builder, builder.shuffle_vector(a, b, lanes), into, place)
        return context.get_dummy_value()

    n = types.int64
    return types.none(target, source, n, n), codegen
