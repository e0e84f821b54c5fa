"""A budget of instructions: what a loop takes in the machine code is recorded, and no more is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sass

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: kernels are not compiled")

BUDGET = json.loads((Path(__file__).parents[3] / "benchmarks/gpu/instructions.json").read_text())
SLACK = 1.02
"""Another version of the compiler may order things a little otherwise."""
KERNELS = sass.kernels()


def test_every_kernel_has_its_budget():
    assert BUDGET["arch"] == sass.ARCH
    assert set(BUDGET["per_step"]) == set(KERNELS)


@pytest.mark.skipif(
    sass.disassembler() is None, reason="nvdisasm is not installed: instructions are not counted"
)
@pytest.mark.parametrize("name", KERNELS)
def test_no_more_instructions_than_recorded(name):
    found = sass.count(*KERNELS[name])
    assert found.per_step <= SLACK * BUDGET["per_step"][name]
    goal = BUDGET["goals"].get(name)
    assert goal is None or found.per_step <= goal


@pytest.mark.skipif(
    sass.disassembler() is None, reason="nvdisasm is not installed: instructions are not counted"
)
@pytest.mark.parametrize("rate", sass.SEARCHES)
def test_no_more_instructions_of_a_search_than_recorded(rate):
    assert sass.window_count(rate) <= SLACK * BUDGET["per_state_step"][str(rate)]


@pytest.mark.skipif(
    sass.disassembler() is None, reason="nvdisasm is not installed: instructions are not counted"
)
@pytest.mark.parametrize("window", sass.WINDOWS)
def test_no_more_instructions_of_an_elimination_than_recorded(window):
    assert sass.column_count(window) <= SLACK * BUDGET["per_column"][str(window)]


@pytest.mark.skipif(
    sass.disassembler() is None, reason="nvdisasm is not installed: instructions are not counted"
)
@pytest.mark.parametrize("name", [name for name in KERNELS if name.endswith("256 columns")])
def test_nothing_in_flight_is_overwritten(name):
    """The compiler, too, keeps operands where they are until products are waited for."""
    assert sass.in_flight(KERNELS[name][0]) == (8, [])


def test_what_is_in_flight_is_found():
    loop = [
        "IADD3 R180, P0, R2, R3, RZ ",
        "HGMMA.64x256x16.F32 R24, R168, gdesc[UR20], R24 ",
        "HGMMA.64x256x16.F32 R24, R172, gdesc[UR20], R24, gsb0 ",
        "LOP3.LUT R176, R172, R24, RZ, 0xfc, !PT ",
        "HGMMA.64x256x16.F32 R24, R176, gdesc[UR20], R24, gsb0 ",
        "@P1 LOP3.LUT R173, R1, R2, RZ, 0xfc, !PT ",
        "WARPGROUP.DEPBAR.LE gsb0, 0x1 ",
        "LDS R171, [R3] ",
        "LDS.64 R22, [R178] ",
        "IMAD.WIDE.U32 R22, R5, R6, R7 ",
        "LDG.E.128 R22, [R5.64] ",
        "STS [R24], R24 ",
    ]
    wrong = ["LOP3.LUT R173, R1, R2, RZ, 0xfc, !PT ", "LDG.E.128 R22, [R5.64] "]
    assert sass.overwritten(loop) == (
        3,
        [*wrong, loop[3], *wrong],
    )  # the third product is in flight around the loop
    assert sass.overwritten([*loop[:5], "WARPGROUP.DEPBAR.LE gsb0, 0x0 "]) == (3, [])


def test_straight_code_is_found():
    text = """
        /*0010*/ LDS.128 R4, [R2] ;
        /*0020*/ @P1 BRA `(.L_x_2) ;
        /*0030*/ LDS.128 R4, [R2] ;
        /*0040*/ LDS.128 R8, [R2] ;
.L_x_2:
        /*0050*/ LDS.128 R8, [R2] ;
        /*0060*/ MOV R1, R1 ;
"""
    assert sass.straight(text, "LDS.128") == ["LDS.128 R4, [R2] ", "LDS.128 R8, [R2] "]


def test_loops_are_found():
    text = """
.L_x_1:
        /*0010*/ LDS R1, [R2] ;
.L_x_2:
        /*0020*/ @!P0 IADD3 R1, R1, 0x1, RZ ;
        /*0030*/ @P1 BRA `(.L_x_2) ;
        /*0040*/ LDS.64 R4, [R2] ;
        /*0050*/ @P0 BRA `(.L_x_1) ;
.L_x_3:
        /*0060*/ MOV R1, R1 ;
        /*0070*/ BRA `(.L_x_3);
"""
    found = sass.main_loop(text, "LDS", 2)
    assert (found.instructions, found.inner, found.kinds) == (3, 2, {"LDS": 2, "BRA": 1})
