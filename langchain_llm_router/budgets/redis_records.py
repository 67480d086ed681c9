"""What one process remembers of the accounts in Redis, and whether the server may forget them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_llm_router.budgets.ledgers import Account, Reservation
from langchain_llm_router.types.errors import import_extra

__all__ = ["Escrow", "Hold", "Known", "check_persistence"]

_logger = logging.getLogger(__name__)

# What was reserved for longer in a running process will not be settled any more.
_LONGEST_REQUEST_S = 86_400.0


@dataclass(slots=True)
class Known:
    """The balance of an account as last read from Redis."""

    account: Account
    settled: int = 0
    reserved: int = 0


@dataclass(slots=True)
class Hold:
    """An amount that this process has reserved in Redis; None while Redis has not answered."""

    accounts: Sequence[Account]
    amount: int | None
    since_s: float
    is_escrow: bool = False

    def is_past(self, unix_s: float, now: float) -> bool:
        """Return whether its periods are over, or it is too old to be settled."""
        if all(a.expires_s is not None and a.expires_s < unix_s for a in self.accounts):
            return True
        return not self.is_escrow and now - self.since_s > _LONGEST_REQUEST_S


@dataclass(slots=True)
class Escrow:
    """An amount that is reserved for times without Redis, and what is left of it."""

    reservation: Reservation
    left: int


def check_persistence(client: Any, *, required: bool) -> None:
    """Say in the log whether a server may forget what was spent.

    Args:
        client: The Redis client.
        required: Whether to refuse such a server.

    Raises:
        redis.RedisError: If persistence is required, and missing or not known.
    """
    redis = import_extra("redis", "redis")
    danger: str | None
    try:
        danger = _find_danger(client.info())
    except redis.ResponseError as error:
        danger = f"`INFO` is not allowed ({error}), so this is not known"
    if danger is None:
        return
    msg = (
        f"Redis may forget what was spent from the budgets: {danger}. Set `appendonly yes` and "
        "`maxmemory-policy noeviction` there, or accept it with `persistence='ignore'`"
    )
    if required:
        raise redis.RedisError(msg)
    _logger.warning("%s.", msg)


def _find_danger(info: Mapping[str, Any]) -> str | None:
    """Return why a server may forget keys; None if it does not."""
    if not info.get("aof_enabled"):
        return "it writes no append-only file, so it loses accounts when it is killed"
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        return f"it deletes keys when memory is short (`maxmemory-policy` is {policy})"
    return None
