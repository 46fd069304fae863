"""What crosses between this process, the zygote and its children: the layout of every message.

Both sides import this module, so it holds nothing but structs and numbers.
"""

import struct

FILTERS = struct.Struct("<II")
"""Parent to zygote, once: the lengths (bytes) of the zygote's and of the children's seccomp filter, which follow."""
REPORT_BYTES = 65_536
"""Zygote to parent, once: at most so much JSON, {name of a primitive that failed: why}; see `lockdown.PRIMITIVES`."""
START = struct.Struct("<dQ")
"""Parent to zygote, with the descriptors request, result, reply: wall clock (s), memory budget (bytes)."""
OUTCOME = struct.Struct("<i?d")
"""Zygote to parent: wait status of the child, was it killed at the deadline, wall time (ms)."""
REQUEST = struct.Struct("<IIIQ")
"""Request: number of programs, number of images, stdout limit (chars), pixel limit. Then the programs' heads, the
images' heads, the programs, the images."""
PROGRAM = struct.Struct("<III")
"""One program: its length (bytes of UTF-8), which image is its `image`, how many of the images it sees. All but the
last only set the stage: what they bind stays, what they print and make is dropped."""
IMAGE = struct.Struct("<IIII")
"""Head of one image of a request: width and height in pixels, then in the coordinates that the model writes."""
SIDES = struct.Struct("<II")
"""Width and height of one image; its pixels lie as `pixels` has them, row by row."""
RESULT = struct.Struct("<8s12sIII")
"""Result: magic (written last), status, number of images, bytes of stdout, bytes of detail."""
MAGIC = b"CVRESULT"
DETAIL_CHARS = 400
MAX_IMAGES_BACK = 16
EXIT_NO_MEMORY = 77
"""How a child ends that had no memory left for its result."""
