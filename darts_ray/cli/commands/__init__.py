"""The commands, a file per kind: each parses, loads, calls the library once, and prints."""
