"""The published game's reference values: exact recursion, linear fills, maximal inventory 60, start at 0.

Mean profit, std profit, std of the terminal inventory, mean spread, certainty equivalent with a two-point and with
a gaussian mid, penalised objective; two independent implementations agree in every digit.
"""

from __future__ import annotations

NAMES = {
    "A-S": "avellaneda_stoikov",
    "symmetric": "symmetric",
    "GLFT exact": "glft",
    "GLFT asymptotic": "glft_asymptotic",
    "DP cara": "dynamic_program_cara",
    "DP penalty": "dynamic_program_penalty",
}

TABLE = """
0.01 | A-S             | 68.3996 |  8.9606 | 5.2125 | 1.3490 | 67.9990 | 67.9990 | 68.1693
0.01 | symmetric       | 68.6636 | 13.6591 | 8.7117 | 1.3490 | 67.7297 | 67.7296 | 67.9034
0.01 | GLFT exact      | 68.5275 |  9.7529 | 5.4984 | 1.3406 | 68.0528 | 68.0528 | 68.2224
0.01 | GLFT asymptotic | 68.4237 |  9.1506 | 3.9146 | 1.3450 | 68.0058 | 68.0058 | 68.1757
0.01 | DP cara         | 68.5280 |  9.7498 | 5.5011 | 1.3346 | 68.0536 | 68.0536 | 68.2221
0.01 | DP penalty      | 68.5284 |  9.7574 | 5.5002 | 1.3390 | 68.0532 | 68.0532 | 68.2225
0.1  | A-S             | 64.8925 |  6.5432 | 2.9268 | 1.4918 | 62.7873 | 62.7871 | 64.5011
0.1  | symmetric       | 68.0205 | 13.2684 | 8.4011 | 1.4918 | 45.4066 | 37.4289 | 61.1747
0.1  | GLFT exact      | 67.8310 |  7.2506 | 3.0966 | 1.3385 | 65.2370 | 65.2365 | 66.8668
0.1  | GLFT asymptotic | 67.7289 |  7.1753 | 2.1957 | 1.3425 | 65.1876 | 65.1872 | 66.8205
0.1  | DP cara         | 67.8270 |  7.2262 | 3.1061 | 1.3141 | 65.2490 | 65.2485 | 66.8407
0.1  | DP penalty      | 67.8677 |  7.3331 | 3.1034 | 1.3563 | 65.2146 | 65.2140 | 66.8750
0.5  | A-S             | 48.5681 |  5.8981 | 1.9558 | 2.1557 | 40.8298 | 40.8285 | 48.0574
0.5  | symmetric       | 58.3479 | 11.5063 | 7.0699 | 2.1557 | -787.6  | -2455.6 | 38.1764
0.5  | GLFT exact      | 66.0489 |  6.1318 | 2.0459 | 1.2715 | 57.1996 | 57.1902 | 64.0539
0.5  | GLFT asymptotic | 65.9858 |  6.1237 | 1.4180 | 1.2734 | 57.1521 | 57.1431 | 64.0157
0.5  | DP cara         | 65.9576 |  6.0490 | 2.0720 | 1.2102 | 57.2900 | 57.2782 | 63.7627
0.5  | DP penalty      | 66.6618 |  6.5429 | 2.0627 | 1.3886 | 56.6476 | 56.6350 | 64.3940
"""

ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]


def agrees(value: float, printed: str) -> bool:
    """Whether `value` rounds to `printed`."""
    digits = len(printed.partition(".")[2])
    return f"{value:.{digits}f}" == printed
