"""What holds for every test."""

from hypothesis import settings

from codevision_ext.verl_adapter.device import use_cpu_if_no_cuda

use_cpu_if_no_cuda()  # whichever file of tests is the first to import verl or transformers in its process

settings.register_profile("busy", deadline=None)  # the machine may be
settings.load_profile("busy")
