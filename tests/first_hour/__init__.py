"""A newcomer's first hour: runs each command of the documents as printed, in an empty home."""
