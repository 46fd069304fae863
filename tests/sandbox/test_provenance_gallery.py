"""Over galleries of snippets and images, what is claimed is right, and what has no answer isn't claimed."""

from itertools import cycle

from galleries import GALLERIES, MISSED, WRONG, verdicts

from codevision_ext.sandbox import Sandbox


def test_of_every_snippet_of_the_galleries_few_are_missed_and_hardly_any_is_wrong(sandbox: Sandbox) -> None:
    tried = []
    for snippets, images in GALLERIES.values():
        # each snippet once, on the image after its predecessor's; measure_galleries.py tries them all
        tried += verdicts(sandbox, zip(snippets, cycle(images), strict=False), snippets, images)
    answers = sum(verdict.truth is not None for verdict in tried)
    wrong = [verdict for verdict in tried if verdict.wrong]
    missed = [verdict for verdict in tried if verdict.truth is not None and not verdict.right]
    assert len(missed) <= MISSED * answers, missed
    assert len(wrong) <= WRONG * len(tried), wrong
