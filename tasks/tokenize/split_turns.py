"""A long conversation cut between its questions: each piece is the system text and as many exchanges as fit.

Pieces do not overlap, so that every answer is learned once; a later piece does not know what an earlier one said.
"""

from dataclasses import replace
from typing import Any

from tasks.kernels.chat import Conversation, render_conversations
from tasks.kernels.encoding import Encoded, encode_conversations


def split_turns(tokenizer: Any, conversation: Conversation, limit: int) -> list[Encoded] | None:
    """Cut a conversation into pieces of at most `limit` tokens.

    Returns:
        the pieces of which something is learned, in order, one row each; None if that is none, or if one exchange and
        the system text are over the limit already.
    """
    first, exchanges = _exchanges(conversation)
    found: list[Encoded] = []
    at = 0
    while at < len(exchanges):
        fitting, end = None, at
        for tried in range(at + 1, len(exchanges) + 1):
            piece = _piece(conversation, [*range(first), *(n for each in exchanges[at:tried] for n in each)])
            encoded = encode_conversations(tokenizer, render_conversations(tokenizer, [piece]))
            if encoded.refused or len(encoded.ids) > limit:
                break
            fitting, end = encoded, tried
        if fitting is None:
            return None
        if fitting.mask.any():
            found.append(fitting)
        at = end
    return found or None


def _exchanges(conversation: Conversation) -> tuple[int, list[list[int]]]:
    """How many system turns open a conversation, and the positions of each question with all that follows it."""
    roles = [str(message["role"]) for message in conversation.messages]
    first = next((n for n, role in enumerate(roles) if role != "system"), len(roles))
    exchanges: list[list[int]] = []
    for n in range(first, len(roles)):
        if n == first or (roles[n] == "user" and roles[n - 1] != "user"):
            exchanges.append([])
        exchanges[-1].append(n)
    return first, exchanges


def _piece(conversation: Conversation, positions: list[int]) -> Conversation:
    return replace(
        conversation,
        messages=[conversation.messages[n] for n in positions],
        learned=[place for place, n in enumerate(positions) if n in set(conversation.learned)],
    )
