"""Taps and first codes that the search found: written by ``python -m benchmarks.trellis_search``.

By rate, then by window: codes ``a`` (q,) for weights of variance 1, and taps (kinds of rows, q) as
:class:`xorpack.code.trellis.TrellisNetwork` has them. The numbers behind are the relative squared error measured on
65,536 fresh Gaussian weights, in columns of 4096.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

Found = tuple[tuple[float, ...], tuple[tuple[int, ...], ...]]

DESIGNS: Mapping[Fraction, Mapping[int, Found]] = {
    Fraction(1, 8): {
        12: (  # 0.85613
            (0.3146, 0.2131),
            (
                (0xD4C, 0x269),
                (0xA74, 0x16C),
                (0xB3E, 0xDCA),
                (0x56B, 0x2EE),
                (0x8C6, 0xC3A),
                (0x181, 0xC2A),
                (0x77B, 0x9A8),
                (0xE88, 0x9D9),
            ),
        ),
    },
    Fraction(1, 4): {
        12: (  # 0.72437
            (0.5131, 0.1126),
            (
                (0xBA3, 0x816),
                (0xC1B, 0xF2C),
                (0xF9F, 0x348),
                (0x742, 0xC88),
            ),
        ),
    },
    Fraction(1, 2): {
        12: (  # 0.52091
            (0.5972, 0.356),
            (
                (0xA91, 0xD12),
                (0xE3B, 0xB0D),
            ),
        ),
        14: (  # 0.51860
            (0.6011, 0.3505),
            (
                (0xA91, 0x2D12),
                (0x3E3B, 0xB0D),
            ),
        ),
    },
    Fraction(1, 1): {
        12: (  # 0.26959
            (0.6173, 0.4414, 0.3645, 0.2487),
            ((0xEE7, 0xA16, 0xB3A, 0xC24),),
        ),
        14: (  # 0.26574
            (0.6155, 0.4246, 0.3682, 0.2688),
            ((0x2EA7, 0x816, 0x1B7A, 0x1424),),
        ),
    },
    Fraction(3, 2): {
        12: (  # 0.13898
            (0.6012, 0.5051, 0.3828, 0.3121, 0.2851),
            (
                (0x6AB, 0xD6C, 0xF62, 0xC90, 0xD2),
                (0x9AE, 0xE75, 0xB24, 0xA48, 0xB6D),
            ),
        ),
        14: (  # 0.13598
            (0.5722, 0.4977, 0.399, 0.3373, 0.273),
            (
                (0x368B, 0x2DEC, 0x3FE2, 0x1C90, 0x11D2),
                (0x3DAE, 0xE75, 0xB24, 0x1A49, 0x2B6D),
            ),
        ),
    },
    Fraction(2, 1): {
        12: (  # 0.07077
            (0.675, 0.4006, 0.4012, 0.3988, 0.2901, 0.2278),
            ((0x8CA, 0xC05, 0xD24, 0xF90, 0x108, 0x308),),
        ),
        14: (  # 0.06958
            (0.6287, 0.392, 0.4065, 0.4114, 0.3103, 0.2544),
            ((0x3ADA, 0x1E84, 0x3E05, 0x2DB4, 0x2508, 0x331C),),
        ),
    },
    Fraction(5, 2): {
        12: (  # 0.03685
            (0.5905, 0.4968, 0.4402, 0.3364, 0.2979, 0.2792, 0.2678),
            (
                (0x722, 0x89D, 0x584, 0x5E8, 0x878, 0xAE6, 0xF20),
                (0xB12, 0xFC9, 0x404, 0x310, 0xB48, 0xE58, 0xB23),
            ),
        ),
    },
    Fraction(3, 1): {
        12: (  # 0.01847
            (0.5938, 0.5029, 0.4326, 0.3661, 0.3126, 0.2918, 0.2351, 0.2181),
            ((0xBC4, 0xE52, 0xE39, 0x860, 0xFC8, 0xFA0, 0x152, 0xF98),),
        ),
    },
    Fraction(7, 2): {
        12: (  # 0.00979
            (0.5866, 0.4828, 0.4331, 0.3938, 0.3536, 0.3222, 0.2672, 0.2348),
            (
                (0x4BE, 0xCB1, 0xA32, 0x454, 0x6D4, 0x888, 0x138, 0xF8),
                (0xA13, 0xD04, 0xA62, 0xD4, 0x9F4, 0x870, 0xF00, 0xAB8),
            ),
        ),
    },
    Fraction(4, 1): {
        12: (  # 0.00498
            (0.5167, 0.4718, 0.4122, 0.3747, 0.338, 0.3032, 0.2463, 0.2355, 0.2499),
            ((0x164, 0x94A, 0x6A7, 0xEC5, 0x290, 0x5C0, 0xA61, 0xCC0, 0xA42),),
        ),
    },
    Fraction(9, 2): {
        12: (  # 0.00265
            (0.5047, 0.4473, 0.4138, 0.3575, 0.3321, 0.3031, 0.2593, 0.2437, 0.2146, 0.1909),
            (
                (0xA7A, 0x434, 0x1D2, 0x479, 0x6C4, 0xE80, 0xF40, 0x188, 0x470, 0x9E4),
                (0xA01, 0xBA8, 0xF14, 0x303, 0xFE4, 0x100, 0x8A0, 0x462, 0xBC0, 0xBA8),
            ),
        ),
    },
    Fraction(5, 1): {
        12: (  # 0.00153
            (0.4672, 0.4201, 0.387, 0.3569, 0.3129, 0.2894, 0.24, 0.2372, 0.24, 0.2027),
            ((0xAB4, 0x448, 0x9C4, 0xFA2, 0x2E1, 0x520, 0xA40, 0xCA4, 0xA40, 0xDA1),),
        ),
    },
    Fraction(11, 2): {
        12: (  # 0.00077
            (0.4389, 0.3955, 0.3694, 0.3446, 0.3104, 0.285, 0.2675, 0.2467, 0.221, 0.2038, 0.1954, 0.1709),
            (
                (0x5D6, 0xFE8, 0xF64, 0x4B2, 0xC4, 0x9A4, 0xAA0, 0xB41, 0xC60, 0xA40, 0xEF0, 0xEC0),
                (0xEE8, 0xDD8, 0xB88, 0xA85, 0x146, 0xC1, 0x700, 0xCC0, 0xC00, 0x7C0, 0xEC8, 0x140),
            ),
        ),
    },
    Fraction(6, 1): {
        12: (  # 0.00044
            (0.4326, 0.396, 0.3625, 0.333, 0.3083, 0.2833, 0.231, 30.0142, 0.2236, 0.231, -29.5904, 0.171),
            ((0x240, 0xC60, 0x2C8, 0x1E4, 0xDA2, 0xD01, 0x840, 0x280, 0xD51, 0x840, 0x280, 0xF52),),
        ),
    },
}
