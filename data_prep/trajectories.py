"""How a row becomes a demonstration for SFT."""

from data_prep.schema import Message, Row, Trajectory, user_text


def read_aloud(row: Row) -> Trajectory:
    """The answer at first sight, without a tool: what the model learns before it meets the tool."""
    answer = f"<think>upright</think><answer>{row.answers[0]}</answer>"
    return Trajectory(
        messages=(Message(role="user", content=user_text(row)), Message(role="assistant", content=answer)),
        images=row.images,
        sample_type="read",
        metadata={"sample_type": "read", "answer": row.answers[0], "applied": [], "box": None, "calls": []},
    )
