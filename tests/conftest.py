"""What holds for every test."""

from hypothesis import settings

settings.register_profile("busy", deadline=None)  # the machine may be
settings.load_profile("busy")
