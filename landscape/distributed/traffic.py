"""Messages and bytes that a rank sends, counted from the buffers it hands over.

    all-gather, ring:                 P - 1 messages, all bytes but the shard that the next rank holds already
    reduce-scatter, pairwise:         P - 1 messages, all bytes but this rank's own shard
    all-reduce, recursive doubling:   ceil(log2 P) messages of the whole buffer (small sums)
    control (objects, barriers):      ceil(log2 P) messages, bytes not counted

With equal shards the first two together are 2 (P - 1) / P of the full block's bytes: what a block product costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Traffic:
    """Calls, messages and bytes sent by kind: 'all_gather', 'reduce_scatter', 'sum', 'control'."""

    calls: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str, messages: int, sent: int) -> None:
        """Note one collective."""
        for table, amount in ((self.calls, 1), (self.messages, messages), (self.sent, sent)):
            table[kind] = table.get(kind, 0) + amount

    def copy(self) -> Traffic:
        """The counts as they are now."""
        return Traffic(dict(self.calls), dict(self.messages), dict(self.sent))

    def since(self, before: Traffic) -> Traffic:
        """What was added after an earlier copy."""
        return Traffic(*(
            {kind: count - old.get(kind, 0) for kind, count in new.items()}
            for new, old in ((self.calls, before.calls), (self.messages, before.messages), (self.sent, before.sent))
        ))  # fmt: skip

    def a_product(self) -> dict[str, float]:
        """Messages and bytes sent a block product: of its two collectives, and of the small sums between products."""
        products = max(self.calls.get("reduce_scatter", 0), 1)
        pair = ("all_gather", "reduce_scatter")
        return {
            "collectives": sum(self.calls.get(kind, 0) for kind in pair) / products,
            "messages": sum(self.messages.get(kind, 0) for kind in pair) / products,
            "bytes": sum(self.sent.get(kind, 0) for kind in pair) / products,
            "sums": self.calls.get("sum", 0) / products,
            "sum_bytes": self.sent.get("sum", 0) / products,
        }
