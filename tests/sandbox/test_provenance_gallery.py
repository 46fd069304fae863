"""Over galleries of snippets and pictures, what is claimed is right, and what has no answer isn't claimed."""

from itertools import cycle

from galleries import GALLERIES, verdicts

from codevision_ext.sandbox import Sandbox


def test_98_percent_are_right_and_at_most_1_percent_wrong(sandbox: Sandbox) -> None:
    tried = []
    for snippets, pictures in GALLERIES.values():
        # each snippet once, on the picture after its predecessor's; measure_galleries.py tries them all
        tried += verdicts(sandbox, zip(snippets, cycle(pictures), strict=False), snippets, pictures)
    answers = sum(verdict.truth is not None for verdict in tried)
    wrong = [verdict for verdict in tried if verdict.wrong]
    missed = [verdict for verdict in tried if verdict.truth is not None and not verdict.right]
    assert len(missed) <= 0.02 * answers, missed
    assert len(wrong) <= 0.01 * len(tried), wrong
