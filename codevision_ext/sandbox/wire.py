"""Defines the layout of every message between this process, the zygote and its children.

All of them import this module, so it has only structs and numbers.
"""

import struct

FILTERS = struct.Struct("<II")
"""Parent to zygote, once: the lengths (bytes) of the zygote's and of the children's seccomp filter, which follow."""
REPORT_BYTES = 65_536
"""Maximum length of the zygote's report to the parent: JSON, {name of a primitive that failed: reason}."""
START = struct.Struct("<dQ")
"""Parent to zygote, with the descriptors request, result, reply: wall clock (s), memory budget (bytes)."""
OUTCOME = struct.Struct("<i?d")
"""Zygote to parent: wait status of the child, whether it was killed at the deadline, wall time (ms)."""
REQUEST = struct.Struct("<IIIQ")
"""Request: number of programs, number of images, stdout limit (chars), pixel limit. Then the programs' heads, the
images' heads, the programs, the images' paths, the images."""
PROGRAM = struct.Struct("<III")
"""One program: its length (bytes of UTF-8), the index of its `image`, and the number of images that it gets.

Of all programs but the last only the variables are kept; their output and images are dropped."""
IMAGE = struct.Struct("<IIIII")
"""Head of one image of a request: width and height in pixels, then in the coordinates that the model writes, and the
length of its path (bytes of UTF-8)."""
SIDES = struct.Struct("<II")
"""Width and height of one image; `pixels` has the layout of its pixels."""
RESULT = struct.Struct("<8s12sIII")
"""Result: magic (written last), status, number of images, bytes of stdout, bytes of detail."""
MAGIC = b"CVRESULT"
DETAIL_CHARS = 400
MAX_IMAGES_BACK = 16
EXIT_NO_MEMORY = 77
"""Exit code of a child that had no memory left for its result."""
