"""The promises under attack: ``python -m tests.chaos``, and a short form of it in the tests."""
