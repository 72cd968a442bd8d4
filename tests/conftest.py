"""For every test: no secret is printed, logged or sent."""

pytest_plugins = ("tests.secrecy",)
