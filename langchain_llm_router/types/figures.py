"""How a person reads money, scores and shares: one rule for each, in every text and picture.

The live page has the same rules in `apps/server/page_figures.js`. A number that a program reads,
or that an error quotes as the argument it was, is not rounded by them.
"""

from __future__ import annotations

import math

__all__ = ["format_score", "format_share", "format_usd"]


def format_usd(amount_usd: float | None, *, unknown: str = "unknown") -> str:
    """Format an amount of money: with cents, and below a dollar with three digits.

    Args:
        amount_usd: The amount in USD; None or NaN if it is unknown.
        unknown: What an unknown amount is called.

    Example:
        >>> format_usd(2.5), format_usd(1234), format_usd(0.3), format_usd(0.000123456)
        ('$2.50', '$1,234.00', '$0.30', '$0.000123')
        >>> format_usd(None)
        'unknown'
    """
    if amount_usd is None or math.isnan(amount_usd):
        return unknown
    size = abs(amount_usd)
    decimals = 2 if size >= 1 or size == 0 else 2 - math.floor(math.log10(size))
    whole, _, cents = f"{size:,.{decimals}f}".partition(".")
    text = f"${whole}.{cents.rstrip('0'):0<2}" if cents else f"${whole}"
    return f"−{text}" if amount_usd < 0 else text


def format_score(score: float) -> str:
    """Format a score or a probability, in [0, 1], with three decimals.

    Example:
        >>> format_score(0.125), format_score(1)
        ('0.125', '1.000')
    """
    return f"{score:.3f}"


def format_share(share: float, decimals: int = 0, *, sign: bool = False) -> str:
    """Format a share as a percentage.

    Args:
        share: The share, 1 for all.
        decimals: Number of decimals of the percentage.
        sign: Whether to write `+` before a share above 0.

    Example:
        >>> format_share(0.461), format_share(0.4612, 1), format_share(0.02, sign=True)
        ('46 %', '46.1 %', '+2 %')
    """
    return f"{100 * share:{'+' if sign else ''}.{decimals}f} %"
