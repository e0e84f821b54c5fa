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
