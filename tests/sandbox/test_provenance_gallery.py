"""Over a gallery of snippets and pictures, what is claimed is right, and what has no answer isn't claimed."""

from gallery import KNOWN, Snippet, pictures
from gallery_held_out import HELD_OUT, SECOND

from codevision_ext.geometry import iou
from codevision_ext.sandbox import ExecRequest, Sandbox
from codevision_ext.sandbox.provenance import Provenance, trace
from codevision_ext.types import ExecStatus


def is_right(snippet: Snippet, seen: Provenance, size: tuple[int, int]) -> bool:
    if snippet.net is None or seen.net is None or seen.box is None:
        return False
    return seen.net is snippet.net and iou(seen.box, snippet.region(*size)) > 0.95


def test_98_percent_are_right_and_at_most_1_percent_wrong(sandbox: Sandbox) -> None:
    answers, tried, unknown, wrong = 0, 0, [], []
    for name, snippet in [*KNOWN.items(), *HELD_OUT.items(), *SECOND.items()]:
        for shown, picture in pictures().items():
            request = ExecRequest(code=snippet.code, images=(picture,))
            result = sandbox.run(request)
            assert result.status is ExecStatus.OK, f"{name} on {shown}: {result.detail}"
            seen = trace(sandbox, request, result)
            tried += 1
            answers += snippet.net is not None
            if seen.net is not None and not is_right(snippet, seen, picture.size):
                wrong.append((name, shown, seen.net, seen.box))
            elif seen.net is None and snippet.net is not None:
                unknown.append((name, shown))
    assert len(unknown) + len(wrong) <= 0.02 * answers, (unknown, wrong)
    assert len(wrong) <= 0.01 * tried, wrong
