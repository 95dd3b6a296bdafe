"""Properties are tried without a clock: a busy machine is no bug."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
