"""A process that holds labels and runs what it is sent: JSON lines {"code"} in, JSON lines of what came back out.

After every call it runs an honest one, on an image that holds the label, and says whether that one went as it must.
"""

import json
import os
import sys
import time

import numpy as np
from PIL import Image, ImageOps

from codevision_ext.sandbox import ExecRequest, ExecResult, Isolation, Limits, Sandbox

LIMITS = Limits(
    wall_s=0.7, memory_mb=256, max_side=600, max_pixels=500_000, stdout_chars=2000, code_chars=20_000, max_aspect=50
)
HONEST = (
    "import random\n"
    "print(len(images), random.random(), np.random.rand(), np.float64(1) / 3, os.environ.get('LANG'), max([1]))\n"
    "a = cv2.flip(cv2.rotate(np.array(image), cv2.ROTATE_180), 0)\n"
    "image = ImageOps.mirror(ImageOps.mirror(Image.fromarray(a)))\n"
)


def in_time(result: ExecResult) -> bool:
    """A machine that is busy may stop an honest call; code that an attack left behind would stop all of them."""
    return result.status != "timeout"


def main() -> None:
    """Answer until the input ends."""
    label = os.environ["LABEL"]
    secret = np.frombuffer((label.encode() * 1000)[:12_000], np.uint8).reshape(50, 80, 3)
    honest = ExecRequest(code="import os\n" + HONEST, images=(Image.fromarray(secret),))
    with Sandbox(LIMITS, live=2, isolation=Isolation(sys.argv[1])) as sandbox:
        expected = sandbox.run(honest)
        answer = {
            "isolation": sandbox.start(),
            "honest": expected.status == "ok"
            and expected.images[0].tobytes() == ImageOps.mirror(honest.images[0]).tobytes(),
            "uid": os.getuid(),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:
            started = time.monotonic()
            result = sandbox.run(ExecRequest(code=json.loads(line)["code"], images=(Image.new("RGB", (24, 16)),)))
            took = time.monotonic() - started
            after = next(filter(in_time, (sandbox.run(honest) for _ in range(4))), None)
            answer = {
                "status": result.status,
                "stdout": result.stdout,
                "detail": result.detail,
                "took_s": took,
                "sizes": [image.size for image in result.images],
                "leaks": any(b"CANARY-" in image.tobytes() for image in result.images),
                "clean": after is not None
                and (after.status, after.stdout) == (expected.status, expected.stdout)
                and after.images[0].tobytes() == expected.images[0].tobytes(),
            }
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
