"""What can be wrong with a node: each fault is counted down by what it befalls, or stays until it is taken back."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Faults:
    """The faults of one node. Counters say how many of the next calls they befall; zero and None are health."""

    drop: int = 0
    """`sendTransaction` is answered with the signature, and the transaction never lands."""
    error_before_landing: int = 0
    """`sendTransaction` is refused, and the transaction never lands."""
    error_after_landing: int = 0
    """`sendTransaction` is refused, and the transaction lands all the same."""
    unavailable: int = 0
    """No answer to anything; nothing is done (`NodeUnavailable`, HTTP 503)."""
    unavailable_after: int = 0
    """The request is carried out and its answer is lost."""
    hide_status: int = 0
    """`getSignatureStatuses` says null of a transaction that has landed, once per signature asked about."""
    is_history_hidden: bool = False
    """Statuses, signatures and transactions are all unknown, as on a node that has pruned them; accounts are not."""
    landing_delay_slots: int = 0
    """What is sent lands so many slots later, when it still may."""
    slots_behind: int = 0
    """The node answers from so many slots ago."""
    false_finalized: int = 0
    """What is sent never lands, and this node shows it as finalized: status, transaction, history, new accounts."""
    is_finality_early: bool = False
    """This node calls finalized what has only just landed, and may still be forked away."""
