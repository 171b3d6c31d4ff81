"""Servers that run in processes of their own: the server under test, and its alternatives."""
